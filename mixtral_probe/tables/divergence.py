"""How differently two groups of documents use the experts of a layer: `group_divergence`."""

from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import VALUE_COLUMNS, Estimate, View, estimate_rows, rows, tidy, typed_frame

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
DIVERGENCE = {
    "js_divergence_bits": "Jensen-Shannon divergence of the two groups' loads, bits, in [0, 1]; null: sampling alone",
    "normalized_js_divergence": "the same / (log E - mean entropy of the two), in [0, 1]; null: sampling alone",
    "load_cosine": "cosine of the two groups' loads, 1 when alike; null: sampling alone",
    "top_half_jaccard": "of the fewest experts that hold half of each group's load, those in common / those in either",
}
_KEYS = ("layer", "group", "other_group")
_NO_PAIRS = "not enough data: two groups are needed: RoutingStats.from_trace(trace, by=…)"


class _Smooth(NamedTuple):
    """A metric of two loads with its value by sampling alone."""

    formula: Callable[[Counts, Counts], Floats]
    null: Callable[..., Floats]
    words: str


def group_divergence(stats: RoutingStats) -> pd.DataFrame:
    """How far apart any two groups are in their use of a layer's experts.

    The interval is the two-sample jackknife: the documents of each group are left out one at a time, and the two
    corrections and variances are added.

    Columns: layer, group, other_group, metric, value, low, high, null, n, scope. Each pair has one row, the first in
    the alphabet as `group`. n counts the tokens of both. With fewer than two groups the table is empty and
    `attrs["note"]` says why.
    """
    pairs = np.array([*combinations(range(len(stats.groups)), 2)], np.intp).reshape(-1, 2)
    if len(pairs) == 0:
        empty = typed_frame(pd.DataFrame(columns=[*_KEYS, *VALUE_COLUMNS]))
        empty.attrs["note"] = _NO_PAIRS
        return empty
    view, (one, other) = View.of(stats), pairs.T
    names = np.array(stats.groups, dtype=object)
    keys = {"layer": np.array(stats.layers)[:, None], "group": names[one], "other_group": names[other]}
    a, b = (stats.sums.counts.sum(2)[:, own] for own in (one, other))  # [L, pairs, E]
    about = f"one layer; {view.tokens_scope}; loads of two groups, each divided by its sum; "
    parts = [_smooth(view, keys, pairs, name, how, about) for name, how in _SMOOTH.items()]
    parts.append(_sets(view, keys, pairs, a, b, about))
    return tidy(parts, _KEYS)


def _smooth(
    view: View, keys: dict[str, Any], pairs: NDArray[np.intp], name: str, how: _Smooth, about: str
) -> pd.DataFrame:
    counts, sizes = view.stats.sums.counts, view.stats.sums.tokens  # [L, G, Bk, ...]
    a, b = (counts[:, own].sum(2) for own in pairs.T)  # [L, pairs, E]
    value = how.formula(a, b)
    # The documents of the two groups are two samples, each left out of its own group alone.
    less_a, less_b = (total[:, :, None] - counts[:, own] for total, own in zip((a, b), pairs.T, strict=True))
    deleted = how.formula(less_a, b[:, :, None]), how.formula(a[:, :, None], less_b)
    ends = [
        metrics.jackknife_interval(value, without, sizes[:, own]) for without, own in zip(deleted, pairs.T, strict=True)
    ]
    centre = value + sum((low + high) / 2 - value for low, high in ends)
    half = np.sqrt(sum(np.square((high - low) / 2) for low, high in ends))
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    found = Estimate(value, low, high, np.where(np.isnan(low), 1, 2), view.stats.folded)
    tokens = sizes.sum(2)
    n = np.where(np.isnan(value), 0, tokens[:, pairs[:, 0]] + tokens[:, pairs[:, 1]])
    null = how.null(a, b, chosen=view.stats.num_experts_per_tok)
    table = estimate_rows(keys, name, found, null, n, about + how.words, "a group without tokens, or both quite even")
    return table.assign(scope=table["scope"].str.replace("; one ", "; a group of one ", regex=False))


_SMOOTH = {
    "js_divergence_bits": _Smooth(metrics.js_divergence_bits, metrics.expected_js_divergence_bits, "bits"),
    "normalized_js_divergence": _Smooth(
        metrics.normalized_js_divergence, metrics.expected_normalized_js_divergence, "share of what is possible"
    ),
    "load_cosine": _Smooth(metrics.load_cosine, metrics.expected_load_cosine, "cosine"),
}


def _sets(view: View, keys: dict[str, Any], pairs: NDArray[np.intp], a: Counts, b: Counts, about: str) -> pd.DataFrame:
    value = metrics.top_p_jaccard(a, b)
    tokens = view.stats.sums.tokens.sum(2)
    n = np.where(np.isnan(value), 0, tokens[:, pairs[:, 0]] + tokens[:, pairs[:, 1]])
    words = np.where(n > 0, "no interval: not smooth", "not enough data: no tokens in one of the groups")
    scope = (about + "experts that hold half of each load; null: the same experts; ") + words.astype(object)
    return rows(keys, "top_half_jaccard", value, null=1.0, n=n, scope=scope)
