"""The tokens an expert is chosen for beyond what its load explains: `expert_tokens`."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.frame import View, rows, tidy

Floats = NDArray[np.float64]
TOKENS = {
    "token_lift": "share of the type's tokens that chose the expert / share of all tokens that did; null 1",
    "token_npmi": "normalised pointwise mutual information of type and expert, in [-1, 1]; null 0",
    "token_log_odds": "z-score of the type's log odds among the expert's tokens against all others; null 0",
    "token_frequency": "share of the type's tokens that chose the expert; null: that of all tokens",
    "token_false_discovery": "Benjamini-Hochberg: share of false finds if this and all stronger ones are believed",
}
MIN_COUNT, TOP = 10, 10
PRIOR = 1000.0
"""Tokens that the prior of the log odds is worth."""
_KEYS = ("layer", "group", "expert", "place", "token_id", "token")


class _Held(NamedTuple):
    """The types of one group that were met often enough, in one layer."""

    types: NDArray[np.int64]
    """[V]"""
    n: Floats
    """[V] tokens of each."""
    values: dict[str, Floats]
    """By metric, [V, E]."""
    nulls: dict[str, Floats]
    """By metric, [E]."""


def expert_tokens(stats: RoutingStats, *, top: int = TOP, min_count: int = MIN_COUNT) -> pd.DataFrame:
    """The tokens each expert is chosen for most beyond its load, strongest lift first.

    Columns: layer, group, expert, place, token_id, token, metric, value, low, high, null, n, scope. n counts the
    type's tokens. False discoveries are controlled over all types and experts of a layer and group together.

    Args:
        stats: the statistics.
        top: how many tokens of each expert, at most; only those with a lift above 1.
        min_count: least number of tokens of a type.
    """
    view, often = View.of(stats), f"{min_count} times or more"
    parts = []
    for place, group in enumerate(view.groups):
        types, halves = stats.affinity.select("input", None if group == ALL else place)
        for row, layer in enumerate(stats.layers):
            held = _held(view, row, place, types, halves[row].sum(0), min_count)
            why = f"no token type was met {min_count} times" if len(types) else "token ids were not recorded"
            parts.append(_of_layer(view, {"layer": layer, "group": group}, held, top, often, why))
    return tidy(parts, _KEYS)


def _held(
    view: View, row: int, group: int, types: NDArray[np.int64], counts: NDArray[np.int64], min_count: int
) -> _Held:
    n = metrics.occurrences(counts, chosen=view.stats.num_experts_per_tok)
    often = n >= min_count
    counts, n = counts[often], n[often]
    load, tokens = view.total.counts[row, group], view.total.tokens[row, group]
    whole = np.ceil(n).astype(np.int64)
    p = metrics.lift_p_values(counts, whole, load, tokens)
    values = {
        "token_lift": metrics.token_lift(counts, n, load, tokens),
        "token_npmi": metrics.token_npmi(counts, n, load),
        "token_log_odds": metrics.token_log_odds(counts, n, load, tokens, prior=PRIOR),
        "token_frequency": metrics.ratio(counts, n[:, None]),
        "token_false_discovery": metrics.false_discovery_rates(p),
    }
    frequency = metrics.selection_frequency(load, tokens)
    fixed = {"token_lift": 1.0, "token_npmi": 0.0, "token_log_odds": 0.0, "token_false_discovery": 1.0}
    nulls = {name: np.full(len(load), value) for name, value in fixed.items()} | {"token_frequency": frequency}
    return _Held(types[often], n, values, nulls)


def _of_layer(view: View, keys: dict[str, object], held: _Held, top: int, often: str, why: str) -> pd.DataFrame:
    about = f"one layer; {view.tokens_scope}; token types met {often}; {len(held.types):,} of them tried; "
    none = why if not len(held.types) else "the expert was chosen for none more often than its load explains"
    experts = range(view.stats.num_experts)
    best = [_best(held, expert, top) for expert in experts]
    expert = np.concatenate([np.full(max(len(own), 1), number) for number, own in zip(experts, best, strict=True)])
    place = np.concatenate([np.arange(max(len(own), 1)) for own in best])
    there = np.array([len(own) > 0 for own in best])[expert]  # an expert without tokens has one row that says so
    at, own = np.concatenate(best), expert[there]
    token = [view.stats.affinity.pieces.get(int(token)) for token in held.types[at]]
    metric = np.array(list(TOKENS), object)[:, None]
    value = _where(there, np.stack([held.values[name][at, own] for name in TOKENS]), np.nan)
    columns = keys | {
        "expert": expert,
        "place": _where(there, place[there], pd.NA),
        "token_id": _where(there, held.types[at], pd.NA),
        "token": _where(there, np.array(token, object), None),
    }
    null = np.stack([held.nulls[name][expert] for name in TOKENS])
    scope = np.where(there, about + "no interval: not kept by document", f"{about}not enough data: {none}")
    n = _where(there, held.n[at].astype(np.int64), 0)
    return rows(columns, metric, value, null=null, n=n, scope=scope)


def _best(held: _Held, expert: int, top: int) -> NDArray[np.intp]:
    """[up to top] the types with the highest lift above 1, the most frequent of equals first."""
    lift = held.values["token_lift"][:, expert]
    order = np.lexsort((held.types, -held.n, -np.nan_to_num(lift)))
    return order[lift[order] > 1][:top]


def _where(there: NDArray[np.bool_], values: NDArray[Any], missing: object) -> NDArray[Any]:
    """[..., R] the values [..., found] where they are there, and what stands where there are none."""
    kind = values.dtype if isinstance(missing, int | float) else np.dtype(object)
    out = np.full((*values.shape[:-1], len(there)), missing, kind)
    out[..., there] = values
    return out
