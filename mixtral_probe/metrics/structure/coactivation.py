"""Experts chosen by the same token: functions of the counts of `stats.Structure`.

`pairs` is `[..., E, E]`: tokens that chose both experts; symmetric, 0 on the diagonal.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
_HALVINGS = 60


def coactivation_conditional(pairs: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E, E] share N_ij / N_i of the tokens of expert i that chose j too; uniform (K-1)/(E-1) (OLMoE, eq. 6)."""
    return ratio(pairs, np.asarray(counts, np.float64)[..., :, None])


def coactivation_jaccard(pairs: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E, E] N_ij / (N_i + N_j - N_ij), in [0, 1]."""
    both, n = np.asarray(pairs, np.float64), np.asarray(counts, np.float64)
    return ratio(both, n[..., :, None] + n[..., None, :] - both)


def coactivation_lift(pairs: ArrayLike, counts: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., E, E] N_ij T / (N_i N_j). Choices of a token exclude each other: uniform E(K-1)/(K(E-1)), 4/7 for 2 of 8.

    Below 1 by construction, so compare it with `expected_pairs`, never with 1.
    """
    n = np.asarray(counts, np.float64)
    top = np.asarray(pairs, np.float64) * np.asarray(tokens, np.float64)[..., None, None]
    return ratio(top, n[..., :, None] * n[..., None, :])


def expected_pairs(pairs: ArrayLike) -> Floats:
    """[..., E, E] pairs expected if experts had no mutual preference, at the same pairs per expert.

    The quasi-independence table m_ij = a_i a_j, 0 on the diagonal, with the row sums of `pairs` (Goodman 1968). For
    K = 2 it is the distribution of two choices without replacement with these loads.

    With s the sum of all a, the row sums are r_i = a_i (s - a_i), so that a_i / s = (1 - sqrt(1 - 4 r_i / s^2)) / 2;
    only the expert with most pairs may have the larger root. One number remains to be found, by bisection: the root u
    of that expert, with 4 r / s^2 = 1 - u^2 and a / s = (1 - u) / 2; it is -1 if every pair is with that expert.
    """
    rows = np.asarray(pairs, np.float64).sum(-1)
    most = rows.argmax(-1)[..., None]
    largest = np.take_along_axis(rows, most, -1)
    others = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    np.put_along_axis(others, most, 0.0, -1)
    root = _root_of_most(others)
    part = others / (1 + np.sqrt(1 - others * (1 - root**2)))  # 2 a_i / (s (1 - u^2))
    expected = largest[..., None] * (1 - root**2)[..., None] * part[..., :, None] * part[..., None, :]
    with_most = largest * (1 - root) * part
    is_most = np.arange(rows.shape[-1]) == most
    expected = np.where(is_most[..., :, None], with_most[..., None, :], expected)
    expected = np.where(is_most[..., None, :], with_most[..., :, None], expected)
    return np.where(np.eye(rows.shape[-1], dtype=bool), 0.0, expected)


def _root_of_most(others: Floats) -> Floats:
    """[..., 1] the root u in [-1, 1] of the other experts' pairs [..., E], in parts of those of the largest."""
    low, high = -np.ones((*others.shape[:-1], 1)), np.ones((*others.shape[:-1], 1))
    for _ in range(_HALVINGS):
        u = (low + high) / 2
        excess = (others * (1 - u) / (1 + np.sqrt(1 - others * (1 - u**2)))).sum(-1, keepdims=True) - 1
        low, high = np.where(excess > 0, u, low), np.where(excess > 0, high, u)
    return (low + high) / 2


def buddy_share(pairs: ArrayLike) -> Floats:
    """[..., E, E] q(j|i) = N_ij / sum_j N_ij, in [0, 1], sum 1 (BuddyMoE); for K = 2 it is the conditional."""
    both = np.asarray(pairs, np.float64)
    return ratio(both, both.sum(-1, keepdims=True))


def lookup_hits(joint: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Count how often a look-up in the other blocks of documents predicts the second choice from the first.

    For each block the guess is the second value most frequent with the first one in all other blocks.

    Args:
        joint: [..., Bk, R, C] how often value r of one occurred with value c of the other, per block.

    Returns:
        hits [..., Bk]; hits of the one guess that is best without the first [..., Bk]; and the number of guesses of
        either [..., Bk], 0 where there is no other block to learn from.
    """
    counts = np.asarray(joint, np.float64)
    rest = counts.sum(-3, keepdims=True) - counts
    best = rest.sum(-2).argmax(-1)[..., None, None]  # [..., Bk, 1, 1]
    guess = np.where(rest.sum(-1, keepdims=True) > 0, rest.argmax(-1)[..., None], best)
    learned = rest.sum((-1, -2)) > 0
    hits, base = (
        np.take_along_axis(counts, np.broadcast_to(place, guess.shape), -1).sum((-1, -2)) for place in (guess, best)
    )
    return hits * learned, base * learned, counts.sum((-1, -2)) * learned
