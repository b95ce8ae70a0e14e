"""Repetition along the text and experts chosen together: functions of the counts of `stats.Structure`.

`repeats` is `[..., 2, K + 1]`: pairs of tokens by whether their first choices agree and how many experts they share.
`pairs` is `[..., E, E]`: tokens that chose both experts; symmetric, 0 on the diagonal.
"""

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.load import ratio

Floats = NDArray[np.float64]
_ROUNDS = 300


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
    """Repetition under uniform top-K routing: 1/E, 1 - C(E-K, K)/C(E, K) and K/E (.125, 13/28, .25 for 2 of 8)."""
    apart = comb(num_experts - chosen, chosen) / comb(num_experts, chosen)
    return {"repetition_first": 1 / num_experts, "repetition_any": 1 - apart, "overlap": chosen / num_experts}


def independent_repetition(
    load: ArrayLike, pairs: ArrayLike, tokens: ArrayLike, *, shuffled: bool
) -> dict[str, Floats]:
    """Repetition [...] of two tokens that have nothing to do with each other but their loads.

    First: sum of f_i^2 over first choices; overlap: sum of F_i^2 / K; any, for K <= 2: the chance that two choices
    share an expert is the mean number shared minus the chance that they share both. For larger K `repetition_any`
    needs more than pairs and is not there.

    Args:
        load: [..., K, E] choices by rank.
        pairs: [..., E, E] tokens that chose both.
        tokens: [...] T.
        shuffled: two different tokens of these T, drawn without replacement: exactly what a shuffle of the text gives
            on average. Otherwise two tokens like these.
    """
    n, both, t = (np.asarray(array, np.float64) for array in (load, pairs, tokens))
    chosen, less = n.shape[-2], float(shuffled)
    total = t * (t - less)
    first = n[..., 0, :]
    any_rank = n.sum(-2)
    shared = ratio((any_rank * (any_rank - less)).sum(-1), total)
    found = {"repetition_first": ratio((first * (first - less)).sum(-1), total), "overlap": shared / chosen}
    if chosen <= 2:
        found["repetition_any"] = shared - ratio((both * (both - less)).sum((-1, -2)) / 2, total)
    return found


def coactivation_conditional(pairs: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E, E] share N_ij / N_i of the tokens of expert i that chose j too; uniform (K-1)/(E-1) (OLMoE, eq. 6)."""
    return ratio(pairs, np.asarray(counts, np.float64)[..., :, None])


def coactivation_jaccard(pairs: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E, E] N_ij / (N_i + N_j - N_ij), in [0, 1]."""
    both, n = np.asarray(pairs, np.float64), np.asarray(counts, np.float64)
    return ratio(both, n[..., :, None] + n[..., None, :] - both)


def coactivation_lift(pairs: ArrayLike, counts: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., E, E] N_ij T / (N_i N_j). Choices of a token exclude each other: uniform E(K-1)/(K(E-1)), 4/7 for 2 of 8.

    Below 1 by construction, so hold it against `expected_pairs`, never against 1.
    """
    n = np.asarray(counts, np.float64)
    top = np.asarray(pairs, np.float64) * np.asarray(tokens, np.float64)[..., None, None]
    return ratio(top, n[..., :, None] * n[..., None, :])


def expected_pairs(pairs: ArrayLike) -> Floats:
    """[..., E, E] what pairs would be if experts had no preference for each other, given how often each is in a pair.

    The quasi-independence table m_ij = a_i a_j, 0 on the diagonal, with the row sums of `pairs` (Goodman 1968), by
    damped proportional fitting. For K = 2 it is the law of two choices without replacement that has these loads.
    """
    rows = np.asarray(pairs, np.float64).sum(-1)
    scale = np.sqrt(rows.sum(-1, keepdims=True))
    a = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    for _ in range(_ROUNDS):
        others = a.sum(-1, keepdims=True) - a
        a = np.sqrt(a * np.divide(rows, others, out=np.zeros_like(rows), where=others > 0))
    expected = a[..., :, None] * a[..., None, :]
    return np.where(np.eye(rows.shape[-1], dtype=bool), 0.0, expected)
