"""How much each expert is used: `expert_load`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums, Statistic
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import EVEN_USE, NO_GATES, NO_LOGITS, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]


class LoadStatistic(NamedTuple):
    """A metric of expert load as a function of sums, and what it is the share of."""

    of: Statistic
    """[..., E] of sums [...]."""
    even: float | None
    """Its value when the experts are used evenly; None for the mean of the experts."""
    words: str


def load_statistics(stats: RoutingStats) -> dict[str, LoadStatistic]:
    """Return the metrics of expert load that these statistics have the sums of, by name."""
    experts = stats.num_experts
    found = {
        "share": LoadStatistic(lambda sums: metrics.share(sums.counts), 1 / experts, "share of assignments"),
        "selection_frequency": LoadStatistic(_frequency, None, "share of tokens"),
    }
    if stats.sums.gate is not None:
        found["gate_share"] = LoadStatistic(lambda sums: _per_token(sums.gate, sums), 1 / experts, "mean gate weight")
    if stats.sums.probability is not None:
        words = "mean softmax over all experts"
        found["mean_probability"] = LoadStatistic(lambda sums: _per_token(sums.probability, sums), 1 / experts, words)
    return found


@of_stats
def expert_load(stats: RoutingStats) -> pd.DataFrame:
    """Return the share of assignments, of tokens, of gate weight and of probability, per layer, group and expert.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope.
    """
    sums, statistics, parts = GroupedSums.of(stats), load_statistics(stats), []
    keys = sums.keys(expert=np.arange(stats.num_experts))
    for metric, why in _WHY_MISSING.items():
        if metric not in statistics:
            parts.append(missing_rows(keys, metric, (*sums.total.tokens.shape, stats.num_experts), why))
    for metric, statistic in statistics.items():
        estimate = sums.estimate(statistic.of, bounds=SPEC.metrics[metric].bounds)
        scope = f"one layer; {sums.tokens_scope}; {statistic.words}"
        even = estimate.value.mean(-1, keepdims=True) if statistic.even is None else statistic.even
        parts.append(estimate_rows(keys, metric, estimate, even, sums.total.tokens, scope))
    return tidy(parts, SPEC)


def _frequency(sums: Sums) -> Floats:
    return metrics.selection_frequency(sums.counts, sums.tokens)


def _per_token(mass: NDArray[np.float64] | None, sums: Sums) -> Floats:
    assert mass is not None
    return metrics.ratio(mass, sums.tokens[..., None])


_WHY_MISSING = {"gate_share": NO_GATES, "mean_probability": NO_LOGITS}
SPEC = TableSpec(
    function=expert_load,
    source="stats",
    description="How much each expert is used.",
    keys=("layer", "group", "expert"),
    metrics={
        "share": Metric(
            "share of assignments n_i / (sum of n), 1/E when even", "share of assignments", ".1%", SHARE, EVEN_USE
        ),
        "selection_frequency": Metric(
            "share of tokens that chose the expert, n_i / T, K/E when even", "share of tokens", ".1%", SHARE, EVEN_USE
        ),
        "gate_share": Metric(
            "mean over tokens of the weight given to the expert, 1/E when even",
            "mean gate weight",
            ".1%",
            SHARE,
            EVEN_USE,
        ),
        "mean_probability": Metric(
            "mean over tokens of the softmax over all experts, 1/E when even",
            "mean router probability",
            ".1%",
            SHARE,
            EVEN_USE,
        ),
    },
    figures=(
        Drawing("expert_load_map"),
        Drawing("expert_load"),
        Drawing("expert_load_groups", grouped=True),
    ),
    narrows=True,
)
