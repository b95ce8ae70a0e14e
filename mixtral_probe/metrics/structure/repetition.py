"""Repetition along the text: functions of the counts of `stats.Structure`.

`repeats` is `[..., 2, K + 1]`: pairs of tokens by whether their first choices agree and how many experts they share.
"""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]


def repetition_first(repeats: ArrayLike) -> Floats:
    """[...] share of pairs of tokens with the same first choice, in [0, 1] (Mixtral, 2401.04088, table 5)."""
    counts = np.asarray(repeats, np.float64)
    return ratio(counts[..., 1, :].sum(-1), counts.sum((-1, -2)))


def repetition_any(repeats: ArrayLike) -> Floats:
    """[...] share of pairs of tokens with an expert in common, in [0, 1] (Mixtral, table 5, "first or second")."""
    counts = np.asarray(repeats, np.float64)
    return ratio(counts[..., 1:].sum((-1, -2)), counts.sum((-1, -2)))


def overlap(repeats: ArrayLike) -> Floats:
    """[...] mean share of a token's K experts that the other token chose too, in [0, 1]."""
    counts = np.asarray(repeats, np.float64)
    chosen = counts.shape[-1] - 1
    return ratio(counts.sum(-2) @ np.arange(chosen + 1.0) / max(chosen, 1), counts.sum((-1, -2)))


def uniform_repetition(num_experts: int, chosen: int) -> dict[str, float]:
    """Return uniform top-K routing's repetition: 1/E, 1 - C(E-K, K)/C(E, K) and K/E (.125, 13/28, .25 for 2 of 8)."""
    apart = comb(num_experts - chosen, chosen) / comb(num_experts, chosen)
    return {"repetition_first": 1 / num_experts, "repetition_any": 1 - apart, "overlap": chosen / num_experts}


def set_index(ids: ArrayLike, num_experts: int) -> NDArray[np.intp]:
    """[...] the number of each set of at most K different experts, ids [..., K] in any order, -1 where it has fewer.

    Those of K come first, from 0 to C(E, K) - 1, then those of K - 1, and so on; each in colexicographic order: 012,
    013, 023, 123, 014, ... (Knuth, The Art of Computer Programming 4A, 7.2.1.3). The empty set is last.
    """
    ordered = np.sort(ids, axis=-1)  # what is below 0 comes first
    chosen = ordered.shape[-1]
    missing = (ordered < 0).sum(-1)
    ways = np.array([[comb(expert, rank + 1) for expert in range(num_experts)] for rank in range(chosen)])
    first = np.cumsum([0, *(comb(num_experts, size) for size in range(chosen, 0, -1))])
    rank = np.arange(chosen) - missing[..., None]
    within = np.where(rank >= 0, ways[rank.clip(0), ordered.clip(0)], 0).sum(-1)
    return (first[missing] + within).astype(np.intp)


def disjoint_sets(num_experts: int, chosen: int) -> NDArray[np.bool_]:
    """[S, S] whether two sets of 1 to K experts, numbered as by `set_index`, have no expert in common."""
    sets = (
        sorted(combinations(range(num_experts), size), key=lambda members: members[::-1])
        for size in range(chosen, 0, -1)
    )
    member = np.array([np.isin(range(num_experts), members) for of_size in sets for members in of_size])
    return ~(member[:, None] & member).any(-1)


def independent_repetition(
    load: ArrayLike, pairs: ArrayLike, tokens: ArrayLike, *, shuffled: bool, sets: ArrayLike | None = None
) -> dict[str, Floats]:
    """Return the repetition [...] of two independent tokens with these loads.

    First: sum of f_i^2 over first choices; overlap: sum of F_i^2 / K; any, for K <= 2: the chance that two choices
    share an expert is the mean number shared minus the chance that they share both. For larger K it is the chance that
    the two sets are not disjoint; without `sets` it is absent.

    Args:
        load: [..., K, E] choices by rank.
        pairs: [..., E, E] tokens that chose both.
        tokens: [...] T.
        shuffled: two different tokens of these T, drawn without replacement: exactly the mean over
            all orders of the text. Otherwise two tokens drawn with replacement.
        sets: [..., S] tokens by the set of 1 to K experts they chose, numbered as by `set_index`.
    """
    n, both, t = (np.asarray(array, np.float64) for array in (load, pairs, tokens))
    chosen, less = n.shape[-2], float(shuffled)
    total = t * (t - less)
    first = n[..., 0, :]
    any_rank = n.sum(-2)
    shared = ratio((any_rank * (any_rank - less)).sum(-1), total)
    values = {"repetition_first": ratio((first * (first - less)).sum(-1), total), "overlap": shared / chosen}
    if chosen <= 2:
        values["repetition_any"] = shared - ratio((both * (both - less)).sum((-1, -2)) / 2, total)
    elif sets is not None:
        set_counts = np.asarray(sets, np.float64)
        apart, counted = (set_counts @ disjoint_sets(n.shape[-1], chosen) * set_counts).sum(-1), set_counts.sum(-1)
        values["repetition_any"] = 1 - ratio(apart, counted * (counted - less))
    return values
