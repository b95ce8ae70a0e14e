"""Structure along the text, within a token's choice and between layers: `repetition`, `coactivation`, `transitions`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.metrics import jackknife_interval
from mixtral_probe.stats import MAX_LAG, RoutingStats
from mixtral_probe.tables.frame import Estimate, View, estimate_rows, rows, tidy

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
REPETITION = {
    "repetition_first": "share of pairs of tokens with the same first choice; null: two tokens with the same loads",
    "repetition_any": "share of pairs of tokens with any expert in common; null: as above, uniform routing for K > 2",
    "overlap": "mean share of a token's K experts that the other chose too; null: two tokens with the same loads",
    "repetition_first_shuffled": "what repetition_first is on average when each document's tokens are shuffled",
    "repetition_any_shuffled": "what repetition_any is on average when each document's tokens are shuffled; K <= 2",
    "overlap_shuffled": "what overlap is on average when each document's tokens are shuffled",
}
COACTIVATION = {
    "coactivation_conditional": "share of the tokens of `expert` that chose `other_expert` too, (K-1)/(E-1) when even",
    "coactivation_buddy_share": "of the tokens of `expert`, pairs with `other_expert` / all its pairs (BuddyMoE)",
    "coactivation_jaccard": "tokens that chose both / tokens that chose either",
    "coactivation_preference": "log2 of tokens that chose both / the null's, half a token added to each; null 0",
    "coactivation_lift": "share of both / product of the shares; below 1 by construction: hold it against the null",
}
TRANSITIONS = {
    "joint_share": "share of tokens with first choice `expert` here and `other_expert` there; null: product of shares",
    "transition_probability": "of the tokens with first choice `expert` here, those with `other_expert` there",
    "transition_lift": "joint share / product of the two experts' shares, 1 when independent",
    "mutual_information_bits": "plug-in information of one layer's first choice about the other's; null: its bias",
    "mutual_information_bits_corrected": "the same less its bias",
    "lookup_accuracy": "share of tokens whose first choice there follows that here most often in other documents",
    "cramers_v": "Cramér's V of the two layers' first choices, in [0, 1]; no interval",
}


def _with_all(counts: NDArray[Any], stats: RoutingStats) -> NDArray[Any]:
    """[L, G + 1, ...] with the group "all" last, as in `View`."""
    return counts if stats.by is None else np.concatenate([counts, counts.sum(1, keepdims=True)], axis=1)


class _Metric(NamedTuple):
    """One metric of these tables: a formula of some counts [L, G, Bk, ...], and what its rows are about."""

    name: str
    formula: Callable[..., Floats]
    parts: tuple[NDArray[Any], ...]
    null: NDArray[Any] | float
    n: Counts
    """[L, G, tail]"""
    scope: str
    empty: str
    high: float = 1.0
    low: float = 0.0


def _rows(metric: _Metric, keys: dict[str, Any], sizes: Counts, folded: bool) -> pd.DataFrame:
    """A metric's rows with intervals, none where the value rests on one block; sizes: [L, G, Bk, tail] or 1s."""
    totals = [part.sum(2) for part in metric.parts]
    value = metric.formula(*totals)
    deleted = metric.formula(
        *(total[:, :, None] - part for total, part in zip(totals, metric.parts, strict=True))
    )  # [L, G, Bk, tail]
    ends = jackknife_interval(value, np.moveaxis(deleted, 2, -1), np.moveaxis(sizes, 2, -1))
    low, high = (np.clip(end, metric.low, metric.high) for end in ends)
    blocks = np.broadcast_to((sizes > 0).sum(2), value.shape)
    found = Estimate(value, low, high, np.where(np.isnan(low), np.minimum(blocks, 1), blocks), folded)
    n = np.where(np.isnan(value), 0, metric.n)
    return estimate_rows(keys, metric.name, found, metric.null, n, metric.scope, metric.empty)


def repetition(stats: RoutingStats) -> pd.DataFrame:
    """How often tokens 1 to 8 apart go to the same experts, per layer, group and lag.

    Columns: layer, group, lag, metric, value, low, high, null, n, scope. n counts pairs of tokens.
    """
    view = View.of(stats)
    repeats = _with_all(stats.structure.repeats, stats)  # [L, G, Bk, lag, 2, K + 1]
    pairs = _with_all(stats.structure.pairs, stats).sum(2)
    sizes = repeats.sum((-1, -2))  # [L, G, Bk, lag]
    nulls = metrics.independent_repetition(view.total.load, pairs, view.total.tokens, shuffled=False)
    shuffled, keys = _shuffled(stats), view.keys(lag=np.arange(1, MAX_LAG + 1))
    parts = []
    for name, even in metrics.uniform_repetition(stats.num_experts, stats.num_experts_per_tok).items():
        null = nulls[name][..., None] if name in nulls else even
        fit = "two tokens with these loads" if name in nulls else "uniform routing"
        about = f"one layer; {view.tokens_scope}; n in pairs; null: {fit}; uniform routing {even:.4g}; "
        tail = (null, sizes.sum(2), about + _WITHIN, "no tokens that far apart")
        parts.append(_Metric(name, _REPEATS[name], (repeats,), *tail))
        if name in shuffled:
            tail = (null, sizes.sum(2), about + _SHUFFLED, "no tokens that far apart")
            parts.append(_Metric(f"{name}_shuffled", metrics.ratio, (shuffled[name], sizes), *tail))
    return tidy([_rows(part, keys, sizes, stats.folded) for part in parts], ("layer", "group", "lag"))


_REPEATS: dict[str, Callable[..., Floats]] = {
    "repetition_first": metrics.repetition_first,
    "repetition_any": metrics.repetition_any,
    "overlap": metrics.overlap,
}
_WITHIN = "tokens `lag` apart within a window, no special token between"
_SHUFFLED = "tokens of each document shuffled (of each block of documents, above 64), on average"


def _shuffled(stats: RoutingStats) -> dict[str, Floats]:
    """[L, G, Bk, lag] repeats to expect among as many pairs of each block, were its tokens in any order."""
    sums, structure = stats.sums, stats.structure
    chance = metrics.independent_repetition(sums.load, structure.pairs, sums.tokens, shuffled=True)
    own = structure.repeats.sum((-1, -2))
    return {name: _with_all(own * np.nan_to_num(rate)[..., None], stats) for name, rate in chance.items()}


def coactivation(stats: RoutingStats) -> pd.DataFrame:
    """Which experts are chosen together, for every ordered pair of different experts of a layer.

    Columns: layer, group, expert, other_expert, metric, value, low, high, null, n, scope. The null is a router with the
    same loads and no preference among pairs (`metrics.expected_pairs`).
    """
    view, experts = View.of(stats), np.arange(stats.num_experts)
    pairs = _with_all(stats.structure.pairs, stats)
    counts, tokens = _with_all(stats.sums.counts, stats), _with_all(stats.sums.tokens, stats)
    about = f"one layer; {view.tokens_scope}; null: same loads, no preference among pairs; "
    keys = view.keys(expert=experts, other_expert=experts)
    parts = (
        _rows(part, keys, tokens[..., None, None], stats.folded) for part in _of_pairs(pairs, counts, tokens, about)
    )
    table = pd.concat([*parts, _preference(keys, pairs.sum(2), counts.sum(2), about)], ignore_index=True)
    return tidy([table[table["expert"] != table["other_expert"]]], ("layer", "group", "expert", "other_expert"))


def _of_pairs(pairs: Counts, counts: Counts, tokens: Counts, about: str) -> list[_Metric]:
    both, n, total = pairs.sum(2), counts.sum(2), tokens.sum(2)
    expected, mine, never = metrics.expected_pairs(both), n[..., :, None], "the expert was never chosen"
    conditional, jaccard = metrics.coactivation_conditional, metrics.coactivation_jaccard
    either, lift = mine + n[..., None, :] - both, metrics.coactivation_lift

    def made(name: str, formula: Callable[..., Floats], null: Floats, n: Counts, words: str, **more: Any) -> _Metric:
        parts = more.pop("parts", (pairs, counts))
        return _Metric(f"coactivation_{name}", formula, parts, null, n, about + words, never, **more)

    return [
        made("conditional", conditional, conditional(expected, n), mine, "of the tokens of `expert`"),
        made("buddy_share", _buddies, metrics.buddy_share(expected), mine, "share of the pairs of `expert`"),
        made("jaccard", jaccard, jaccard(expected, n), either, "of the tokens of either"),
        made(
            "lift",
            lift,
            lift(expected, n, total),
            total[..., None, None],
            "share of both / product of the shares",
            parts=(pairs, counts, tokens),
            high=np.inf,
        ),
    ]


def _buddies(pairs: Counts, _counts: Counts) -> Floats:
    return metrics.buddy_share(pairs)


def _preference(keys: dict[str, Any], both: Counts, counts: Counts, about: str) -> pd.DataFrame:
    either = counts[..., :, None] + counts[..., None, :] - both
    value = np.log2((both + 0.5) / (metrics.expected_pairs(both) + 0.5))
    words = np.where(either > 0, "no interval: its null is fitted", "not enough data: neither was ever chosen")
    value, scope = np.where(either > 0, value, np.nan), (about + "both against the null; ") + words.astype(object)
    return rows(keys, "coactivation_preference", value, null=0.0, n=either, scope=scope)


def transitions(stats: RoutingStats) -> pd.DataFrame:
    """From the first choice in one layer to that of the same token in another: in the next, and in what was asked for.

    Columns: layer, other_layer, group, expert, other_expert, metric, value, low, high, null, n, scope. Rows without
    experts are about the two layers as wholes.
    """
    view, experts = View.of(stats), np.arange(stats.num_experts)
    joint = _with_all(stats.structure.transitions, stats)  # [pairs, G, Bk, E, E]
    here, there = np.array(stats.layer_pairs, int).reshape(-1, 2).T
    keys = view.keys() | {"layer": here.reshape(-1, 1), "other_layer": there.reshape(-1, 1)}
    cells = view.keys(expert=experts, other_expert=experts)
    cells |= {name: keys[name].reshape(-1, 1, 1, 1) for name in ("layer", "other_layer")}
    tokens = joint.sum((-1, -2))
    about = f"first choices of two layers; {view.tokens_scope}; "
    parts = [_rows(part, cells, tokens[..., None, None], stats.folded) for part in _of_experts(joint, about)]
    parts += [_rows(part, keys, tokens, stats.folded) for part in _of_layers(joint, about)]
    parts.append(_rows(_lookup(joint, about), keys, tokens, stats.folded))
    total = joint.sum(2)
    n, v = total.sum((-1, -2)), metrics.cramers_v(total)
    scope = np.where(np.isnan(v), f"{about}not enough data: fewer than two experts", f"{about}no interval: not smooth")
    null = metrics.independent_cramers_v(total)
    parts.append(rows(keys, "cramers_v", v, null=null, n=np.where(np.isnan(v), 0, n), scope=scope))
    return tidy(parts, ("layer", "other_layer", "group", "expert", "other_expert"))


def _of_experts(joint: Counts, about: str) -> list[_Metric]:
    total = joint.sum(2)
    tokens, here = total.sum((-1, -2), keepdims=True), total.sum(-1, keepdims=True)
    there = metrics.ratio(total.sum(-2, keepdims=True), tokens)
    product = metrics.ratio(here, tokens) * there
    never = "the expert was never the first choice"
    lift = about + "joint share / product of the shares"
    return [
        _Metric("joint_share", _joint_share, (joint,), product, tokens, about + "share of tokens", "no tokens"),
        _Metric("transition_probability", _probability, (joint,), there, here, about + "of those of `expert`", never),
        _Metric("transition_lift", _lift, (joint,), 1.0, tokens, lift, never, np.inf),
    ]


def _of_layers(joint: Counts, about: str) -> list[_Metric]:
    total = joint.sum(2)
    n, bias, most = total.sum((-1, -2)), metrics.mutual_information_bias(total), np.log2(total.shape[-1])
    name, plugin, less = "mutual_information_bits", about + "plug-in; null: its bias", about + "less its bias"
    return [
        _Metric(name, metrics.mutual_information_bits, (joint,), bias, n, plugin, "no tokens", most),
        _Metric(f"{name}_corrected", _corrected, (joint,), 0.0, n, less, "no tokens", most, -np.inf),
    ]


def _lookup(joint: Counts, about: str) -> _Metric:
    hits, base, counted = metrics.lookup_hits(joint)
    null = metrics.ratio(base.sum(2), counted.sum(2))
    words = about + "guessed from the other blocks of documents; null: the best guess without the first layer"
    n = counted.sum(2).astype(np.int64)
    return _Metric("lookup_accuracy", metrics.ratio, (hits, counted), null, n, words, "fewer than two documents")


def _joint_share(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum((-1, -2), keepdims=True))


def _probability(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum(-1, keepdims=True))


def _lift(joint: Counts) -> Floats:
    product = joint.sum(-1, keepdims=True).astype(np.float64) * joint.sum(-2, keepdims=True)
    return metrics.ratio(joint * joint.sum((-1, -2), keepdims=True).astype(np.float64), product)


def _corrected(joint: Counts) -> Floats:
    return metrics.mutual_information_bits(joint) - metrics.mutual_information_bias(joint)
