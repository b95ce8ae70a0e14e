"""Structure along the text and within a token's choice: `repetition`, `coactivation`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import MAX_LAG, RoutingStats, with_all
from mixtral_probe.tables.counted import Counted
from mixtral_probe.tables.frame import View, rows, tidy

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
REPETITION = {
    "repetition_first": "share of pairs of tokens with the same first choice; null: two tokens with the same loads",
    "repetition_any": "share of pairs of tokens with any expert in common; null: as above, uniform above 256 sets",
    "overlap": "mean share of a token's K experts that the other chose too; null: two tokens with the same loads",
    "repetition_first_shuffled": "what repetition_first is on average when each document's tokens are shuffled",
    "repetition_any_shuffled": "what repetition_any is on average when each document's tokens are shuffled",
    "overlap_shuffled": "what overlap is on average when each document's tokens are shuffled",
}
COACTIVATION = {
    "coactivation_conditional": "share of the tokens of `expert` that chose `other_expert` too, (K-1)/(E-1) when even",
    "coactivation_buddy_share": "of the tokens of `expert`, pairs with `other_expert` / all its pairs (BuddyMoE)",
    "coactivation_jaccard": "tokens that chose both / tokens that chose either",
    "coactivation_preference": "log2 of tokens that chose both / the null's, half a token added to each; null 0",
    "coactivation_lift": "share of both / product of the shares; below 1 by construction: hold it against the null",
}


def repetition(stats: RoutingStats) -> pd.DataFrame:
    """How often tokens 1 to 8 apart go to the same experts, per layer, group and lag.

    Columns: layer, group, lag, metric, value, low, high, null, n, scope. n counts pairs of tokens.
    """
    view = View.of(stats)
    repeats = with_all(stats.structure.repeats, stats.by)  # [L, G, Bk, lag, 2, K + 1]
    pairs = with_all(stats.structure.pairs, stats.by).sum(2)
    sizes = repeats.sum((-1, -2))  # [L, G, Bk, lag]
    sets = _sets(stats)
    whole = None if sets is None else with_all(sets, stats.by).sum(2)
    nulls = metrics.independent_repetition(view.total.load, pairs, view.total.tokens, shuffled=False, sets=whole)
    shuffled, keys = _shuffled(stats), view.keys(lag=np.arange(1, MAX_LAG + 1))
    parts = []
    for name, even in metrics.uniform_repetition(stats.num_experts, stats.num_experts_per_tok).items():
        null = nulls[name][..., None] if name in nulls else even
        fit = "two tokens with these loads" if name in nulls else "uniform routing"
        about = f"one layer; {view.tokens_scope}; n in pairs; null: {fit}; uniform routing {even:.4g}; "
        tail = (null, sizes.sum(2), about + _WITHIN, "no tokens that far apart")
        parts.append(Counted(name, _REPEATS[name], (repeats,), *tail))
        if name in shuffled:
            tail = (null, sizes.sum(2), about + _SHUFFLED, "no tokens that far apart")
            parts.append(Counted(f"{name}_shuffled", metrics.ratio, (shuffled[name], sizes), *tail))
    return tidy([part.rows(keys, sizes, stats.folded) for part in parts], ("layer", "group", "lag"))


_REPEATS: dict[str, Callable[..., Floats]] = {
    "repetition_first": metrics.repetition_first,
    "repetition_any": metrics.repetition_any,
    "overlap": metrics.overlap,
}
_WITHIN = "tokens `lag` apart within a window, no special token between"
_SHUFFLED = "tokens of each document shuffled (of each block of documents, above 64), on average"


def _sets(stats: RoutingStats) -> Counts | None:
    """[L, G, Bk, S] tokens by the set they chose, None where sets are not told apart."""
    held = stats.structure.sets
    return held if held.shape[-1] else None


def _shuffled(stats: RoutingStats) -> dict[str, Floats]:
    """[L, G, Bk, lag] repeats to expect among as many pairs of each block, were its tokens in any order."""
    sums, structure = stats.sums, stats.structure
    chance = metrics.independent_repetition(sums.load, structure.pairs, sums.tokens, shuffled=True, sets=_sets(stats))
    own = structure.repeats.sum((-1, -2))
    return {name: with_all(own * np.nan_to_num(rate)[..., None], stats.by) for name, rate in chance.items()}


def coactivation(stats: RoutingStats) -> pd.DataFrame:
    """Which experts are chosen together, for every ordered pair of different experts of a layer.

    Columns: layer, group, expert, other_expert, metric, value, low, high, null, n, scope. The null is a router with the
    same loads and no preference among pairs (`metrics.expected_pairs`).
    """
    view, experts = View.of(stats), np.arange(stats.num_experts)
    pairs = with_all(stats.structure.pairs, stats.by)
    counts, tokens = with_all(stats.sums.counts, stats.by), with_all(stats.sums.tokens, stats.by)
    about = f"one layer; {view.tokens_scope}; null: same loads, no preference among pairs; "
    keys = view.keys(expert=experts, other_expert=experts)
    parts = (part.rows(keys, tokens[..., None, None], stats.folded) for part in _of_pairs(pairs, counts, tokens, about))
    table = pd.concat([*parts, _preference(keys, pairs.sum(2), counts.sum(2), about)], ignore_index=True)
    return tidy([table[table["expert"] != table["other_expert"]]], ("layer", "group", "expert", "other_expert"))


def _of_pairs(pairs: Counts, counts: Counts, tokens: Counts, about: str) -> list[Counted]:
    both, n, total = pairs.sum(2), counts.sum(2), tokens.sum(2)
    expected, mine, never = metrics.expected_pairs(both), n[..., :, None], "the expert was never chosen"
    conditional, jaccard = metrics.coactivation_conditional, metrics.coactivation_jaccard
    either, lift = mine + n[..., None, :] - both, metrics.coactivation_lift

    def made(name: str, formula: Callable[..., Floats], null: Floats, n: Counts, words: str, **more: Any) -> Counted:
        parts = more.pop("parts", (pairs, counts))
        return Counted(f"coactivation_{name}", formula, parts, null, n, about + words, never, **more)

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
