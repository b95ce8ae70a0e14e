"""How differently each group of documents uses an expert: `domain_specialization`."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, RoutingStats, Sums
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import NO_GROUPS
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]


def domain_specialization(stats: RoutingStats) -> pd.DataFrame:
    """Return how much more or less each group uses an expert than all documents together do.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. The interval leaves out the
    group's documents. Without groups the table is empty and `attrs["note"]` says why.
    """
    if stats.by is None:
        return empty(SPEC, NO_GROUPS)
    sums = GroupedSums.of(stats)
    parts = [_metric_rows(sums, name, statistic) for name, statistic in _STATISTICS.items()]
    return tidy([part[part["group"] != ALL] for part in parts], SPEC)


def _metric_rows(sums: GroupedSums, name: str, statistic: Callable[[Sums], Floats]) -> pd.DataFrame:
    estimate = sums.estimate(statistic, bounds=SPEC.metrics[name].bounds)
    keys = sums.keys(expert=np.arange(sums.stats.num_experts))
    scope = f"one layer; {sums.tokens_scope}; group against all"
    return estimate_rows(keys, name, estimate, 0.0, sums.total.tokens, scope)


def _difference(sums: Sums) -> Floats:
    frequency = metrics.selection_frequency(sums.counts, sums.tokens)
    return frequency - frequency[:, -1:]


def _log_ratio(sums: Sums) -> Floats:
    frequency = metrics.selection_frequency(sums.counts + 0.5, np.where(sums.tokens > 0, sums.tokens + 1, 0))
    return np.log2(np.where(frequency > 0, frequency, np.nan)) - np.log2(frequency[:, -1:])


_STATISTICS: dict[str, Callable[[Sums], Floats]] = {
    "frequency_difference": _difference,
    "frequency_log2_ratio": _log_ratio,
}
SPEC = TableSpec(
    function=domain_specialization,
    source="stats",
    description="How much more each group of documents uses an expert than all together; empty without groups.",
    keys=("layer", "group", "expert"),
    metrics={
        "frequency_difference": Metric(
            "share of the group's tokens that chose the expert, less that of all tokens; 0 when alike",
            "difference of the share of tokens",
            "+.1%",
            (-1.0, 1.0),
            "as all documents",
        ),
        "frequency_log2_ratio": Metric(
            "log2 of the same two shares' ratio, half a token added to each count; 0 when alike",
            "log2 of the ratio of shares",
            "+.2f",
            null="as all documents",
        ),
    },
    figures=(Drawing("domain_specialization"),),
    narrows=True,
)
