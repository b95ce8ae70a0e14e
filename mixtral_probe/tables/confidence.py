"""How sure the router is: `router_confidence` and its `router_confidence_histogram`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import CONFIDENCE, NUM_BINS, RoutingStats, Sums, confidence_edges, with_all
from mixtral_probe.tables.frame import View, estimate_rows, measure, missing_rows, rows, tidy
from mixtral_probe.tables.load import NO_LOGITS

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
WORDS = {
    "router_entropy": "H(p) / ln E of each token",
    "top1_probability": "largest softmax probability of each token",
    "topk_mass": "softmax probability of the chosen experts together",
    "selection_margin": "logit of the weakest chosen minus the strongest other expert, nats",
    "order_margin": "strongest minus second logit, nats",
}


def _nulls(stats: RoutingStats) -> dict[str, float]:
    """What a router that tells nothing apart (all logits alike) gives."""
    experts, chosen = stats.num_experts, stats.num_experts_per_tok
    margins = {"selection_margin": 0.0, "order_margin": 0.0}
    return {"router_entropy": 1.0, "top1_probability": 1 / experts, "topk_mass": chosen / experts} | margins


def router_confidence(stats: RoutingStats) -> pd.DataFrame:
    """Mean (with interval) and quantiles (from fixed bins, without) of the router's confidence per layer and group.

    Columns: layer, group, statistic, metric, value, low, high, null, n, scope.
    n counts the tokens for which the quantity exists: a margin needs an expert that was not chosen.
    """
    view = View.of(stats)
    parts = [part for index, name in enumerate(CONFIDENCE) for part in _quantity(view, index, name)]
    return tidy(parts, ("layer", "group", "statistic"))


def _quantity(view: View, index: int, name: str) -> list[pd.DataFrame]:
    keys, null, scope = view.keys(), _nulls(view.stats)[name], f"one layer; {view.tokens_scope}; {WORDS[name]}"
    tokens = view.total.confidence_tokens
    if tokens is None:
        missing = [missing_rows(keys, name, view.total.tokens.shape, NO_LOGITS)]
        return [part.assign(statistic=statistic) for part in missing for statistic in ("mean", *QUANTILES)]
    found = measure(
        view,
        lambda sums: _mean(sums, index),
        bounds=(-np.inf if name == "selection_margin" else 0, 1 if CONFIDENCE[name][1] == 1 else np.inf),
    )
    n = tokens[..., index]
    mean = estimate_rows(keys | {"statistic": "mean"}, name, found, null, n, scope, _empty(name))
    return [mean, *_quantiles(view, index, name, null, n, scope)]


def _empty(name: str) -> str:
    """Why there may be no token to speak of."""
    return "no tokens with an expert left to compare" if name.endswith("margin") else "no tokens"


def _mean(sums: Sums, index: int) -> NDArray[np.float64]:
    assert sums.confidence is not None
    assert sums.confidence_tokens is not None
    return metrics.ratio(sums.confidence[..., index], sums.confidence_tokens[..., index])


def _quantiles(view: View, index: int, name: str, null: float, n: NDArray[np.int64], scope: str) -> list[pd.DataFrame]:
    counts, edges = _histograms(view.stats)[:, :, index], confidence_edges()[index]
    width = edges[1] - edges[0]
    words = f"{scope}; from bins of {width:.3g}: no interval"
    scopes = np.where(n > 0, words, f"{scope}; not enough data: {_empty(name)}")
    return [
        rows(
            view.keys() | {"statistic": statistic},
            name,
            metrics.histogram_quantile(counts, edges, level),
            null=null,
            n=n,
            scope=scopes,
        )
        for statistic, level in QUANTILES.items()
    ]


def _histograms(stats: RoutingStats) -> NDArray[np.int64]:
    """[L, G, Q, bins] with the group "all" last, as in `View`."""
    assert stats.histogram is not None
    return with_all(stats.histogram, stats.by)


def router_confidence_histogram(stats: RoutingStats) -> pd.DataFrame:
    """Share of tokens in each of the 128 fixed bins of each confidence quantity, per layer and group.

    Columns: layer, group, bin, left, right, metric, value, low, high, null, n, scope. Bins that hold nothing are left
    out; the first and last bin also hold what lies beyond `left` and `right`.
    """
    view = View.of(stats)
    keys = view.keys(bin=np.arange(NUM_BINS))
    shape = (*view.total.tokens.shape, NUM_BINS)
    parts = []
    for index, (name, edges) in enumerate(zip(CONFIDENCE, confidence_edges(), strict=True)):
        own = keys | {"left": edges[:-1], "right": edges[1:]}
        if stats.histogram is None:
            parts.append(missing_rows(own, name, shape, NO_LOGITS))
            continue
        counts = _histograms(stats)[:, :, index]
        n = counts.sum(-1, keepdims=True)
        scope = f"one layer; {view.tokens_scope}; share of tokens in [left, right); {WORDS[name]}; no null, no interval"
        scopes = np.where(n > 0, scope, f"{scope}; not enough data: {_empty(name)}")
        parts.append(rows(own, name, metrics.ratio(counts, n), null=np.nan, n=n, scope=scopes))
    table = tidy(parts, ("layer", "group", "bin", "left", "right"))
    return table[table["value"] != 0].reset_index(drop=True)
