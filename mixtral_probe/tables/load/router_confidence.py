"""How sure the router is: `router_confidence`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import CONFIDENCE, RoutingStats, Sums, confidence_edges, with_all
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.load.confidence import CONFIDENCE_METRICS, mean_null, quantile_null, why_no_tokens
from mixtral_probe.tables.phrases import NO_LOGITS
from mixtral_probe.tables.spec import Drawing, TableSpec

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


@of_stats
def router_confidence(stats: RoutingStats) -> pd.DataFrame:
    """Return mean (with interval) and quantiles (from fixed bins, without) of the router's confidence.

    Columns: layer, group, statistic, metric, value, corrected, low, high, null, n, scope.
    n counts the tokens for which the quantity exists: a margin needs an expert that was not chosen.
    """
    sums = GroupedSums.of(stats)
    return tidy([part for index, name in enumerate(CONFIDENCE) for part in _quantity(sums, index, name)], SPEC)


def _quantity(sums: GroupedSums, index: int, name: str) -> list[pd.DataFrame]:
    keys, null = sums.keys(), mean_null(name, sums.total)
    scope = f"one layer; {sums.tokens_scope}; {CONFIDENCE_METRICS[name].meaning}"
    tokens = sums.total.confidence_tokens
    if tokens is None:
        missing = missing_rows(keys, name, sums.total.tokens.shape, NO_LOGITS)
        return [missing.assign(statistic=statistic) for statistic in ("mean", *QUANTILES)]
    estimate = sums.estimate(lambda sums: mean_confidence(sums, index), bounds=CONFIDENCE_METRICS[name].bounds)
    n = tokens[..., index]
    mean = estimate_rows(keys | {"statistic": "mean"}, name, estimate, null, n, scope, why_no_tokens(name))
    return [mean, *_quantiles(sums, index, name, n, scope)]


def mean_confidence(sums: Sums, index: int) -> NDArray[np.float64]:
    """[...] mean of the quantity of `CONFIDENCE` with this number over the tokens that have it."""
    assert sums.confidence is not None
    assert sums.confidence_tokens is not None
    return metrics.ratio(sums.confidence[..., index], sums.confidence_tokens[..., index])


def _quantiles(sums: GroupedSums, index: int, name: str, n: NDArray[np.int64], scope: str) -> list[pd.DataFrame]:
    histogram = sums.stats.histogram
    assert histogram is not None
    counts, edges = with_all(histogram, sums.stats.by)[:, :, index], confidence_edges()[index]
    bins = f"bins of {edges[1] - edges[0]:.3g} between {edges[0]:g} and {edges[-1]:g}, which hold what lies beyond too"
    words = f"{scope}; from {bins}: no interval"
    scopes = np.where(n > 0, words, f"{scope}; not enough data: {why_no_tokens(name)}")
    return [
        rows(
            sums.keys() | {"statistic": statistic},
            name,
            metrics.histogram_quantile(counts, edges, level),
            null=quantile_null(name, sums.total, level),
            n=n,
            scope=scopes,
        )
        for statistic, level in QUANTILES.items()
    ]


SPEC = TableSpec(
    function=router_confidence,
    source="stats",
    description="How sure the router is; null: all logits alike.",
    keys=("layer", "group", "statistic"),
    metrics=CONFIDENCE_METRICS,
    figures=(Drawing("router_confidence"),),
    narrows=True,
)
