"""How often each expert is the first, second, … choice: `load_by_rank`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import Floats, GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import EVEN_USE, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec


@of_stats
def load_by_rank(stats: RoutingStats) -> pd.DataFrame:
    """Return the share of tokens whose first, second, … choice each expert is (rank 0 = strongest).

    Columns: layer, group, expert, rank, metric, value, corrected, low, high, null, n, scope.
    """
    sums = GroupedSums.of(stats)
    # [..., K, E] as kept becomes [..., E, K], in the order of the keys.
    estimate = sums.estimate(lambda sums: _by_rank(sums).swapaxes(-1, -2), bounds=SHARE)
    keys = sums.keys(expert=np.arange(stats.num_experts), rank=np.arange(stats.num_experts_per_tok))
    even = _by_rank(sums.total).mean(-1)[..., None, :]
    scope = f"one layer; {sums.tokens_scope}; share of tokens by this rank alone"
    return tidy([estimate_rows(keys, "rank_share", estimate, even, sums.total.tokens, scope)], SPEC)


def _by_rank(sums: Sums) -> Floats:
    return metrics.ratio(sums.load, sums.tokens[..., None, None])


SPEC = TableSpec(
    function=load_by_rank,
    source="stats",
    description="How much each expert is used as first, second, … choice.",
    keys=("layer", "group", "expert", "rank"),
    metrics={
        "rank_share": Metric(
            "share of all tokens whose choice of this rank is the expert, 1/E when even",
            "share of tokens",
            ".1%",
            SHARE,
            EVEN_USE,
        )
    },
    figures=(Drawing("load_by_rank"),),
    narrows=True,
)
