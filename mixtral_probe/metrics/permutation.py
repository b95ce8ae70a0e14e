"""Tests by permutation: which labels can be exchanged, and p-values of many values that are tested together."""

from math import comb, factorial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Alternative = Literal["greater", "two-sided"]
MIN_ARRANGEMENTS = 20
"""Distinct arrangements of the labels below which there is no p-value: it could not be 0.05 or less."""
_MANY = 10**6
_ROUNDING = 1e-12
"""Draws that differ by less, and by less than this share of the largest, are equal up to the order of a sum."""
_SAME = 1e-9
"""Standardised values that differ by less are equal."""


def distinct_arrangements(sizes: ArrayLike, *, interchangeable: bool = False) -> int:
    """Return in how many ways labels can be dealt out to units: n! / (n_1! n_2! ...), at most 1,000,000.

    Args:
        sizes: [G] units (documents) with each label; labels without units do not count.
        interchangeable: whether exchanging two labels as a whole changes nothing (information, a divergence), so that
            each set of labels with equally many units divides the number by the orders of the set.
    """
    counts = [int(size) for size in np.asarray(sizes).ravel() if size > 0]
    number, rest = 1, sum(counts)
    for size in counts:
        number, rest = number * comb(rest, size), rest - size
    if interchangeable:
        for size in {*counts}:
            number //= factorial(counts.count(size))
    return min(number, _MANY)


def shuffled_labels(labels: ArrayLike, draws: int, *, seed: ArrayLike = 0) -> NDArray[np.intp]:
    """[draws, U] the labels [U] of the units in random orders; the same for equal arguments.

    Give a seed that depends on the units, such as hashes of their ids: with one seed for all, every corpus of as many
    units would have the same few shuffles, which may happen to be more alike, or less, than most are.
    """
    repeated = np.tile(np.asarray(labels, np.intp), (draws, 1))
    return np.random.default_rng(np.asarray(seed).tolist()).permuted(repeated, axis=1)


def studentised_p_values(
    values: ArrayLike, draws: ArrayLike, *, alternative: Alternative = "greater", joint: bool = False
) -> Floats:
    """[...] p-values of values that are tested together.

    Each value and its draws are standardised by the mean and the standard deviation of them all, the value included,
    and compared with the standardised draws of all values (Storey & Tibshirani 2003):
    p = (1 + draws as large or larger) / (1 + D R) for R values and D draws each, so that p can be far below 1 / (D + 1)
    with many values. Where labels do not matter the p-values are uniform on average over the values. An effect
    inflates its own standard deviation, so its draws become small: the p-values of values without an effect shrink, at
    most by their share among all values, and Benjamini and Hochberg's procedure leaves just that room.

    Args:
        values: [...] the observed values; one that is missing has no p-value and no part in the others'.
        draws: [D, ...] the same with the labels shuffled; one missing draw makes the value's p-value missing.
        alternative: whether large values are unusual, or values far from the mean on either side.
        joint: whether one shuffle gives a draw of all values, so that a shuffle may be extreme in all of them. Then the
            values themselves are among the draws, p = (values and draws as large or larger) / (R + D R): otherwise the
            values would be extreme together once in D + 1 times, each with a p-value near 0.

    Returns:
        In [1 / (1 + D R), 1], or [1 / (R + D R), 1]. A value that no shuffle changes has 1 and no part in the others'.
    """
    observed = np.asarray(values, np.float64)
    table = np.concatenate([observed[None], np.asarray(draws, np.float64)]).reshape(-1, observed.size)
    p = np.where(np.isfinite(table).all(0), 1.0, np.nan)
    table = np.where(np.isfinite(p), table, 0.0)
    varying = np.flatnonzero(np.ptp(table, axis=0) > _ROUNDING * np.abs(table).max(0, initial=1))
    z = table[:, varying]
    z = (z - z.mean(0)) / z.std(0)
    if alternative == "two-sided":
        z = np.abs(z)
    pool, own = (np.sort(z, axis=None), 0) if joint else (np.sort(z[1:], axis=None), 1)
    p[varying] = (own + pool.size - np.searchsorted(pool, z[0] - _SAME)) / max(own + pool.size, 1)
    return p.reshape(observed.shape)
