"""How much of a document each expert takes: `expert_relevance`."""

import numpy as np
import pandas as pd

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.load.means import Mean, mean_rows
from mixtral_probe.tables.phrases import EVEN_USE, NO_GATES, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec


@of_stats
def expert_relevance(stats: RoutingStats) -> pd.DataFrame:
    """Return how much of a document each expert takes, averaged over documents: ESFT's two relevance scores.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope (Wang et al. 2024, 2407.01906,
    eqs. 5-6).
    """
    sums, even = GroupedSums.of(stats), 1 / stats.num_experts
    keys = sums.keys(expert=np.arange(stats.num_experts))
    ratio = mean_rows(sums, Mean("token_selection_ratio", "documents", "choice_share", even, SHARE), keys)
    if sums.total.gate is None:
        shape = (*sums.total.tokens.shape, stats.num_experts)
        gates = missing_rows(keys, "average_gate_score", shape, NO_GATES)
    else:
        gates = mean_rows(sums, Mean("average_gate_score", "documents", "gate_score", even, SHARE), keys)
    return tidy([gates, ratio], SPEC)


SPEC = TableSpec(
    function=expert_relevance,
    source="stats",
    description="How much of a document each expert takes.",
    keys=("layer", "group", "expert"),
    metrics={
        "average_gate_score": Metric(
            "mean weight the expert has in a document's tokens, averaged over documents (ESFT); null 1/E",
            "average gate score",
            ".1%",
            SHARE,
            EVEN_USE,
        ),
        "token_selection_ratio": Metric(
            "share of a document's choices that are the expert, averaged over documents; null 1/E",
            "token selection ratio",
            ".1%",
            SHARE,
            EVEN_USE,
        ),
    },
    figures=(
        Drawing("expert_relevance_map"),
        Drawing("expert_relevance"),
        Drawing("expert_relevance_map", {"group": None}, grouped=True),
    ),
    narrows=True,
)
