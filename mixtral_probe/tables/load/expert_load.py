"""How much each expert is used: `expert_load`."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import EVEN_USE, NO_GATES, NO_LOGITS, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]


def expert_load(stats: RoutingStats) -> pd.DataFrame:
    """Return the share of assignments, of tokens, of gate weight and of probability, per layer, group and expert.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope.
    """
    sums, experts, chosen = GroupedSums.of(stats), stats.num_experts, stats.num_experts_per_tok
    keys = sums.keys(expert=np.arange(experts))
    shape = (*sums.total.tokens.shape, experts)
    plan: list[tuple[str, Callable[[Sums], Floats], float, str]] = [
        ("share", lambda sums: metrics.share(sums.counts), 1 / experts, "share of assignments"),
        ("selection_frequency", _frequency, chosen / experts, "share of tokens"),
    ]
    parts = []
    if sums.total.gate is not None:
        plan.append(("gate_share", lambda sums: _per_token(sums.gate, sums), 1 / experts, "mean gate weight"))
    else:
        parts.append(missing_rows(keys, "gate_share", shape, NO_GATES))
    if sums.total.probability is not None:
        mean = "mean softmax over all experts"
        plan.append(("mean_probability", lambda sums: _per_token(sums.probability, sums), 1 / experts, mean))
    else:
        parts.append(missing_rows(keys, "mean_probability", shape, NO_LOGITS))
    for metric, statistic, null, what in plan:
        estimate = sums.estimate(statistic, bounds=SPEC.metrics[metric].bounds)
        scope = f"one layer; {sums.tokens_scope}; {what}"
        parts.append(estimate_rows(keys, metric, estimate, null, sums.total.tokens, scope))
    return tidy(parts, SPEC)


def _frequency(sums: Sums) -> Floats:
    return metrics.selection_frequency(sums.counts, sums.tokens)


def _per_token(mass: NDArray[np.float64] | None, sums: Sums) -> Floats:
    assert mass is not None
    return metrics.ratio(mass, sums.tokens[..., None])


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
