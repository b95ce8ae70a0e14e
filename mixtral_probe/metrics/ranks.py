"""Ranks: of a value among draws of what it is compared with, and of estimates among each other."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.resampling import jackknife

Floats = NDArray[np.float64]
_PAIRS_AT_ONCE = 2**21
"""Differences without each block in memory at a time."""


def draw_level(draws: int) -> float:
    """Return how often the range of some draws holds one more draw: (D - 1) / (D + 1), so 0.95 for 39 draws.

    Of D + 1 exchangeable values each is the smallest, or the largest, in one of D + 1 cases; ties are held more often.
    """
    return (draws - 1) / (draws + 1)


def draw_rank(value: ArrayLike, draws: ArrayLike) -> NDArray[np.int64]:
    """[...] the place of values among themselves and their draws [D, ...], 1 = the largest; equal draws come after."""
    return 1 + (np.asarray(draws) > np.asarray(value)).sum(0)


def draw_p_value(value: ArrayLike, draws: ArrayLike) -> Floats:
    """[...] two-sided p-values of values that are exchangeable with their draws [D, ...], in [2 / (D + 1), 1].

    Twice the share of the D + 1 values that are as extreme on the nearer side, the value counted (Phipson & Smyth
    2010): 2 / (D + 1) outside the range of the draws, more inside it.
    """
    known, value = np.asarray(draws), np.asarray(value)
    above, below = ((1 + side.sum(0)) / (1 + len(known)) for side in (known >= value, known <= value))
    return np.minimum(1.0, 2 * np.minimum(above, below))


class Ranks(NamedTuple):
    """Ranks of estimates, 1 = the largest; NaN where they are undefined. Each [R]."""

    value: Floats
    """Of the estimates as they are; equal ones share the best of their ranks."""
    corrected: Floats
    """Of the estimates without the bias of few blocks; inside the interval."""
    low: Floats
    """The best rank that the differences allow."""
    high: Floats
    """The worst."""


def rank_intervals(value: ArrayLike, deleted: ArrayLike, sizes: ArrayLike, *, level: float = 0.95) -> Ranks:
    """Rank estimates, each with an interval for its rank, from the jackknife of all differences between two of them.

    An estimate ranks behind those that are larger and before those that are smaller beyond doubt: where the interval of
    the difference, at a level of 1 - (1 - level) / (R - 1), leaves out 0. So the interval holds the true rank in at
    least `level` of the samples (Mogstad, Romano, Shaikh & Wilhelm 2024, marginal, with Bonferroni's bound).

    Args:
        value: [R] the estimates.
        deleted: [R, Bk] the same with block j left out.
        sizes: [Bk] tokens per block, those of every estimate; a block of size 0 does not count.
        level: the nominal coverage of each interval.
    """
    estimates, without = np.asarray(value, np.float64), np.asarray(deleted, np.float64)
    step = max(1, _PAIRS_AT_ONCE // max(without.size, 1))
    parts = [
        _ranks(estimates, without, np.asarray(sizes), slice(start, start + step), level)
        for start in range(0, len(estimates), step)
    ]
    return Ranks(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _ranks(estimates: Floats, without: Floats, sizes: NDArray[Any], some: slice, level: float) -> Ranks:
    """The ranks of some of the estimates among all [R]."""
    number = len(estimates)
    larger = estimates[None] - estimates[some, None]  # by how much the others are
    differences = without[None] - without[some, None]
    pairwise = jackknife(larger, differences, sizes, level=1 - (1 - level) / max(number - 1, 1))
    plain, corrected = (
        np.where(np.isnan(estimates[some]), np.nan, 1 + (side > 0).sum(1)) for side in (larger, pairwise.corrected)
    )
    low, high = 1 + (pairwise.low > 0).sum(1), number - (pairwise.high < 0).sum(1)
    bounded = ~np.isnan(pairwise.low).all(1)
    return Ranks(plain, *(np.where(bounded, part, np.nan) for part in (corrected, low, high)))
