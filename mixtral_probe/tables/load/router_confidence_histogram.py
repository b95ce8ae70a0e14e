"""The distribution of the router's confidence: `router_confidence_histogram`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.stats import CONFIDENCE, NUM_BINS, RoutingStats, confidence_edges, with_all
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.load.confidence import CONFIDENCE_METRICS, why_no_tokens
from mixtral_probe.tables.phrases import NO_LOGITS
from mixtral_probe.tables.spec import Drawing, TableSpec


@of_stats
def router_confidence_histogram(stats: RoutingStats) -> pd.DataFrame:
    """Return the share of tokens in each of the 128 fixed bins of each confidence quantity, per layer and group.

    Columns: layer, group, bin, left, right, metric, value, corrected, low, high, null, n, scope. Empty bins are left
    out; the first and last bin also hold what lies beyond `left` and `right`.
    """
    sums = GroupedSums.of(stats)
    table = tidy([_quantity(sums, index, name) for index, name in enumerate(CONFIDENCE)], SPEC)
    return table[table["value"] != 0].reset_index(drop=True)


def _quantity(sums: GroupedSums, index: int, name: str) -> pd.DataFrame:
    edges = confidence_edges()[index]
    keys = sums.keys(bin=np.arange(NUM_BINS)) | {"left": edges[:-1], "right": edges[1:]}
    if sums.stats.histogram is None:
        return missing_rows(keys, name, (*sums.total.tokens.shape, NUM_BINS), NO_LOGITS)
    counts = with_all(sums.stats.histogram, sums.stats.by)[:, :, index]
    n = counts.sum(-1, keepdims=True)
    meaning = CONFIDENCE_METRICS[name].meaning
    scope = f"one layer; {sums.tokens_scope}; share of tokens in [left, right); {meaning}; no null, no interval"
    scopes = np.where(n > 0, scope, f"{scope}; not enough data: {why_no_tokens(name)}")
    return rows(keys, name, metrics.ratio(counts, n), null=np.nan, n=n, scope=scopes)


SPEC = TableSpec(
    function=router_confidence_histogram,
    source="stats",
    description="Share of tokens in each bin of the router's confidence; bins that hold nothing are left out.",
    keys=("layer", "group", "bin", "left", "right"),
    metrics=CONFIDENCE_METRICS,
    figures=(
        Drawing("router_confidence_histogram", {"metric": "router_entropy"}),
        Drawing("router_confidence_histogram", {"metric": "selection_margin"}),
    ),
    narrows=True,
)
