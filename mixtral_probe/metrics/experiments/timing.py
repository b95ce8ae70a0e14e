"""Medians of repeated measurements."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

Floats = NDArray[np.float64]


def median_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the interval of a median between two order statistics, for any distribution.

    Between the r-th smallest and the r-th largest of n independent values the median lies with probability
    1 - 2 P(Bin(n, 1/2) < r); r is the largest that reaches the level (David & Nagaraja 2003, Order Statistics, 7.1).

    Args:
        values: [..., n] repeated measurements.
        level: the nominal coverage, in (0, 1).

    Returns:
        low [...], high [...]: NaN where n is too small, which for 95 % is below 6.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    n = ordered.shape[-1]
    rank = int(np.sum(2 * bdtr(np.arange((n + 1) // 2), n, 0.5) <= 1 - level))  # r - 1 = 0, 1, ...
    if rank == 0:
        nothing = np.full(ordered.shape[:-1], np.nan)
        return nothing, nothing.copy()
    return ordered[..., rank - 1], ordered[..., n - rank]
