"""How much of each token type's routing one expert has: `vocabulary_specialization`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, TARGETS, RoutingStats
from mixtral_probe.tables.frame import View, rows, tidy

Floats = NDArray[np.float64]
VOCABULARY = {
    "vocabulary_specialization": "mean over token types of the largest share of a type's tokens that chose one expert; "
    "null: as many tokens of each type, routed by the layer's loads alone",
    "vocabulary_specialization_crossval": "the same with each type's expert found in the other half of the documents; "
    "null: the usual share of those experts",
}
MIN_COUNTS = (1, 10)
"""No minimum, as OLMoE's values by layer, and that of its table 8."""
WEIGHTINGS: tuple[metrics.Weighting, ...] = ("type", "token")
TARGET_WORDS = {
    "input": "type of the token routed",
    "predicted": "type the model predicts",
    "next": "type that follows",
}
NO_IDS = {
    "input": "token ids were not recorded",
    "predicted": "predictions were not recorded",
    "next": "token ids were not recorded, or no token follows another",
}
_KEYS = ("layer", "group", "target", "min_count", "weighting", "expert")
_MANY = "not kept by document"


class _Types(NamedTuple):
    """The token types of one group and target."""

    target: str
    shares: tuple[Floats, Floats, Floats]
    """[L, 2, V] each, of either half tried: see `metrics.crossval_shares`."""
    n: Floats
    """[L, V] tokens of each type."""
    share: Floats
    """[L, V] of the type's tokens, how many chose the expert that most chose."""
    leader: NDArray[np.intp]
    """[L, V] that expert."""
    null: Floats
    """[L, V] the same share by the loads alone."""
    even: Floats
    """[L, V] and by uniform routing."""


def vocabulary_specialization(stats: RoutingStats) -> pd.DataFrame:
    """How far token types keep to one expert, plug-in and cross-validated, with what chance gives on the same counts.

    Columns: layer, group, target, min_count, weighting, expert, metric, value, low, high, null, n, scope. Rows without
    an expert are about all types, the others about those types whose tokens chose that expert most often.
    """
    view = View.of(stats)
    parts = [
        part
        for place, name in enumerate(view.groups)
        for target in TARGETS
        for part in _of_target(view, place, name, target)
    ]
    return tidy(parts, _KEYS)


def _of_target(view: View, place: int, group: str, target: str) -> list[pd.DataFrame]:
    found = _types(view, place, None if group == ALL else place, target)
    keys = {"layer": np.array(view.stats.layers), "group": group, "target": target}
    parts = []
    for min_count in MIN_COUNTS:
        for weighting in WEIGHTINGS:
            own = keys | {"min_count": min_count, "weighting": weighting}
            parts.append(_plug_in(view, found, own, min_count, weighting))
            parts.append(_by_expert(view, found, own, min_count, weighting))
            parts.append(_crossval(view, found, own, min_count, weighting))
    return parts


def _types(view: View, place: int, group: int | None, target: str) -> _Types:
    halves = view.stats.affinity.select(target, group)[1]
    counts, chosen = halves.sum(1), view.stats.num_experts_per_tok
    n = metrics.occurrences(counts, chosen=chosen)
    loads = metrics.selection_frequency(view.total.counts[:, place], view.total.tokens[:, place])
    null = [metrics.expected_largest_share(own, np.nan_to_num(load)) for own, load in zip(n, loads, strict=True)]
    even = metrics.expected_largest_share(n, np.full(view.stats.num_experts, chosen / view.stats.num_experts))
    share = metrics.largest_share(counts, chosen=chosen)
    shares = metrics.crossval_shares(halves, chosen=chosen)
    return _Types(target, shares, n, share, counts.argmax(-1), np.array(null), even)


def _about(view: View, found: _Types, min_count: int, weighting: str) -> str:
    least = "met at all" if min_count == 1 else f"met {min_count} times or more"
    weight = "every type alike" if weighting == "type" else "each by its tokens"
    return f"one layer; {view.tokens_scope}; {TARGET_WORDS[found.target]}; types {least}, {weight}; "


def _why(found: _Types, words: str) -> str:
    return f"not enough data: {words if found.n.shape[1] else NO_IDS[found.target]}"


def _plug_in(
    view: View, found: _Types, keys: dict[str, object], min_count: int, weighting: metrics.Weighting
) -> pd.DataFrame:
    weights = metrics.type_weights(found.n, min_count=min_count, weighting=weighting)
    value, null, even = (metrics.mean_over_types(part, weights) for part in (found.share, found.null, found.even))
    kinds, n = (weights > 0).sum(-1), np.where(weights > 0, found.n, 0).sum(-1).astype(np.int64)
    about = _about(view, found, min_count, weighting)
    told = [
        f"{about}{k:,} types; uniform routing {u:.4g}; no interval: {_MANY}" for k, u in zip(kinds, even, strict=True)
    ]
    scope = np.where(n > 0, np.array(told, object), about + _why(found, "no type was met so often"))
    return rows(keys, "vocabulary_specialization", value, null=null, n=n, scope=scope)


def _by_expert(
    view: View, found: _Types, keys: dict[str, object], min_count: int, weighting: metrics.Weighting
) -> pd.DataFrame:
    experts = np.arange(view.stats.num_experts)
    weights = metrics.type_weights(found.n, min_count=min_count, weighting=weighting)
    parts = [np.where(found.leader == expert, weights, 0.0) for expert in experts]
    value, null = (
        np.stack([metrics.mean_over_types(part, own) for own in parts], -1) for part in (found.share, found.null)
    )
    n = np.stack([np.where(own > 0, found.n, 0).sum(-1) for own in parts], -1).astype(np.int64)
    about = _about(view, found, min_count, weighting) + "types whose tokens chose `expert` most; "
    scope = np.where(n > 0, f"{about}no interval: {_MANY}", about + _why(found, "no such type"))
    wide = keys | {"layer": np.array(view.stats.layers)[:, None], "expert": experts}
    return rows(wide, "vocabulary_specialization", value, null=null, n=n, scope=scope)


def _crossval(
    view: View, found: _Types, keys: dict[str, object], min_count: int, weighting: metrics.Weighting
) -> pd.DataFrame:
    value, null = metrics.mean_of_halves(found.shares, min_count=min_count, weighting=weighting)
    both = (found.shares[2] > 0).all(1) & (found.n >= min_count)
    n, about = np.where(both, found.n, 0).sum(-1).astype(np.int64), _about(view, found, min_count, weighting)
    told = [f"{about}{k:,} types met in both halves of the documents; no interval: two halves" for k in both.sum(-1)]
    few = _why(found, "no type was met so often and in both halves of the documents")
    scope = np.where(n > 0, np.array(told, object), about + few)
    return rows(keys, "vocabulary_specialization_crossval", value, null=null, n=n, scope=scope)
