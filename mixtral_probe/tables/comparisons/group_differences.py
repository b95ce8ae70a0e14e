"""By how much two groups of documents differ: `group_differences`."""

from itertools import combinations

import numpy as np
import pandas as pd

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.comparisons.differences import Sample, independent
from mixtral_probe.tables.comparisons.statistics import (
    EXPERT_METRICS,
    LAYER_METRICS,
    difference_metrics,
    expert_statistics,
    layer_statistics,
)
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, TableSpec

_ONE_GROUP = "two groups are needed: RoutingStats.from_trace(trace, by=…)"


@of_stats
def group_differences(stats: RoutingStats) -> pd.DataFrame:
    """Return the differences between any two groups of documents, with the interval of a difference.

    Two intervals that overlap may belong to values that differ beyond doubt: this is the interval to look at. The
    documents of the two groups are two samples (Welch 1947).

    Columns: layer, group, other_group, expert, metric, value, corrected, low, high, null, n, scope. Each pair has one
    row, the first in the alphabet as `group`; rows without an expert are about the layer. n counts the tokens of both.
    With fewer than two groups the table is empty and `attrs["note"]` says why.
    """
    if len(stats.groups) < 2:
        return empty(SPEC, _ONE_GROUP)
    one, other = np.array([*combinations(range(len(stats.groups)), 2)], np.intp).T
    first, second = (
        Sample(stats.sums.map(lambda sums: sums[:, one]), 2),
        Sample(stats.sums.map(lambda sums: sums[:, other]), 2),
    )
    names, tokens = np.array(stats.groups, object), first.total.tokens + second.total.tokens
    scope = f"one layer; {tokens_scope(stats, stats.include_special)}; one of {tokens.size:,} pairs"
    parts = []
    for tail, statistics in (((), layer_statistics(stats)), ((1,), expert_statistics(stats))):
        keys = {"layer": np.array(stats.layers).reshape(-1, 1, *tail)}
        keys |= {key: names[at].reshape(-1, *tail) for key, at in (("group", one), ("other_group", other))}
        keys |= {"expert": np.arange(stats.num_experts)} if tail else {}
        for name, compared in statistics.items():
            metric = f"{name}_difference"
            found = independent(compared, first, second, SPEC.metrics[metric].bounds, folded=stats.folded)
            parts.append(estimate_rows(keys, metric, found, 0.0, tokens, scope))
    return tidy(parts, SPEC)


SPEC = TableSpec(
    function=group_differences,
    source="stats",
    description="By how much any two groups of documents differ, with the interval of the difference.",
    keys=("layer", "group", "other_group", "expert"),
    metrics=difference_metrics("group", "other_group", LAYER_METRICS, EXPERT_METRICS),
    figures=(Drawing("group_differences"),),
    narrows=True,
)
