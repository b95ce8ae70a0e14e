"""Which token types an expert is chosen for more often than its load explains: lift, nPMI, p-values, false discoveries.

`counts` is `[..., V, E]`: tokens of each type that chose each expert; `n` `[..., V]` tokens of each type; `load`
`[..., E]` tokens that chose each expert; `tokens` `[...]` all of them.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from mixtral_probe.metrics.ratios import ratio
from mixtral_probe.metrics.specialization.hypergeometric import upper_tail

Floats = NDArray[np.float64]
MIN_FOLDS = 5
"""Folds of documents with a type below which nothing is tested: of 4 values 16 arrangements of signs are possible, so
that the smallest p-value would be above 0.05 for the sign test."""


def token_lift(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., V, E] (N(x, e) / N(x)) / F_e: how many times the usual share of a type's tokens chose the expert."""
    frequency = ratio(load, np.asarray(tokens, np.float64)[..., None])
    return ratio(ratio(counts, np.asarray(n, np.float64)[..., None]), frequency[..., None, :])


def token_npmi(counts: ArrayLike, n: ArrayLike, load: ArrayLike) -> Floats:
    """[..., V, E] ln(p(x, e) / (p(x) p(e))) / -ln p(x, e), in [-1, 1]: -1 never together, 0 independent (Bouma 2009).

    p is over assignments: a token's K choices are K draws of (type, expert).
    """
    joint, total = np.asarray(counts, np.float64), np.asarray(load, np.float64).sum(-1)[..., None, None]
    p = ratio(joint, total)
    types = ratio(joint.sum(-1, keepdims=True), total)
    experts = ratio(np.asarray(load, np.float64)[..., None, :], total)
    inside, independent = (p > 0) & (p < 1), np.broadcast_to(types * experts, p.shape)
    logs = np.log(np.divide(p, independent, out=np.ones_like(p), where=inside))
    value = np.divide(logs, -np.log(np.where(inside, p, 0.5)), out=np.full(p.shape, -1.0), where=inside)
    possible = np.isfinite(p) & np.isfinite(independent) & (independent > 0)
    return np.where(possible, np.where(p == 1, 1.0, value), np.nan)


def lift_p_values(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., V, E] one-sided p: as many or more of the type's tokens choose the expert when routing ignores the type.

    Exact for tokens that are independent of each other (hypergeometric, Fisher). Tokens of one document are not, so
    small p-values are too small; `consistent_lift_p_values` allows for documents.
    """
    total, took = np.asarray(tokens)[..., None, None], np.asarray(load)[..., None, :]
    return upper_tail(counts, total, took, np.asarray(n)[..., None])


def consistent_lift_p_values(
    counts: ArrayLike, n: ArrayLike, fold: ArrayLike, place: ArrayLike, types: ArrayLike
) -> Floats:
    """[V, E] one-sided p: the types' tokens choose the expert beyond its load, consistently over folds of documents.

    In each fold the tokens of a type that chose the expert are compared with what the expert's load in that fold
    explains: x = (N - n F) / sqrt(n). Documents that each have experts of their own, whatever their words, give values
    x about 0, independent between folds and of different spread. Their t statistic over m folds is compared with
    Student's t of m - 1 degrees of freedom, which such values exceed too seldom rather than too often (Ibragimov &
    Müller 2010, theorem 1, for normal values and one-sided levels up to 4 %). Few tokens may give equal x in all folds
    by chance, so the p-value is not below that of `lift_p_values`, exact for independent tokens.

    Args:
        counts: [R, E] how often the tokens of one type in one fold chose each expert; of all types, each type at most
            once per fold.
        n: [R] tokens of that type and fold.
        fold: [R] the fold of each row.
        place: [R] the type of each row, as a number from 0.
        types: [V] the types to test.

    Returns:
        NaN for a type in fewer than `MIN_FOLDS` folds, and for an expert that every token or none chose.
    """
    rows, size, folds, row_type, wanted = (np.asarray(part) for part in (counts, n, fold, place, types))
    experts, number_of_folds = rows.shape[-1], int(folds.max(initial=0)) + 1
    loads, in_fold = (_added(folds, part, number_of_folds) for part in (rows, size[:, None]))
    number = np.full(max(row_type.max(initial=0), wanted.max(initial=0)) + 1, -1)
    number[wanted] = np.arange(len(wanted))
    kept = np.flatnonzero((number[row_type] >= 0) & (size > 0))
    frequency, own = ratio(loads, in_fold)[folds[kept]], size[kept, None]
    x = (rows[kept] - own * frequency) / np.sqrt(own)
    parts = np.concatenate([np.ones((len(kept), 1)), own, x, np.square(x), rows[kept]], axis=-1)
    sums = _added(number[row_type[kept]], parts, len(wanted))
    met, of_type, total, square, taken = np.split(sums, np.cumsum([1, 1, experts, experts]), axis=-1)
    load, tokens = loads.sum(0), np.ceil(size.sum())
    alone = lift_p_values(taken, np.ceil(of_type[:, 0]), load, tokens)
    tested = (met >= MIN_FOLDS) & (load > 0) & (load < tokens)
    return np.where(tested, np.maximum(_upper_t(met, total, square), alone), np.nan)


def _added(place: NDArray[np.intp], rows: NDArray[Any], number: int) -> Floats:
    """[number, ...] sums of rows [R, tail] at their places [R]."""
    return np.stack([np.bincount(place, weights=column, minlength=number) for column in rows.T], axis=-1)


def _upper_t(met: Floats, total: Floats, square: Floats) -> Floats:
    """[...] P(T >= t) of the t statistic of `met` values with this sum and sum of squares."""
    mean = ratio(total, met)
    # Equal values may have a variance below 0 by rounding.
    error = np.sqrt(np.maximum(square - total * mean, 0.0) / np.maximum(met * (met - 1), 1))
    return np.where(error > 0, stdtr(np.maximum(met - 1, 1), -ratio(mean, error)), np.where(mean > 0, 0.0, 1.0))


def false_discovery_rates(p: ArrayLike) -> Floats:
    """[...] of p-values all tested together: the share of false discoveries among all values up to this one.

    Benjamini & Hochberg (1995), over all values that are not missing; missing ones stay missing.
    """
    values = np.asarray(p, np.float64)
    rates, known = np.full(values.shape, np.nan), np.isfinite(values)
    if known.any():
        # Imported here, since it takes longer than the rest of this package.
        from scipy.stats import false_discovery_control

        rates[known] = false_discovery_control(values[known])
    return rates


def token_log_odds(counts: ArrayLike, n: ArrayLike, load: ArrayLike, tokens: ArrayLike, *, prior: float) -> Floats:
    """[..., V, E] z-score of a type's log odds among an expert's tokens against those among the others; null 0.

    Monroe, Colaresi & Quinn (2008), eqs. 16 and 22: a Dirichlet prior with the corpus' own frequencies and the weight
    of `prior` tokens shrinks rare types towards 0. NaN where the expert took all tokens, or none.

    Args:
        counts: [..., V, E].
        n: [..., V].
        load: [..., E].
        tokens: [...].
        prior: the prior's weight in tokens, above 0.
    """
    whole = np.asarray(tokens, np.float64)[..., None, None]
    observed, total = np.asarray(counts, np.float64), np.asarray(load, np.float64)[..., None, :]
    alpha = prior * ratio(np.asarray(n, np.float64)[..., None], whole)
    sides = ((observed, total), (np.asarray(n, np.float64)[..., None] - observed, whole - total))
    odds = [ratio(y + alpha, size + prior - y - alpha) for y, size in sides]
    spread = np.sqrt(sum(ratio(1.0, y + alpha) for y, _ in sides))
    inside = (total > 0) & (total < whole)
    delta = np.subtract(*(np.log(np.where(inside & (part > 0), part, 1.0)) for part in odds))
    return np.where(inside, ratio(delta, spread), np.nan)
