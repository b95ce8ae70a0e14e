"""Quotients of counts."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """[...] numerator / denominator, broadcast; NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def share(counts: ArrayLike) -> Floats:
    """[..., E] share of assignments f_i = n_i / sum n, in [0, 1], sum 1, even at 1/E (Mixtral, 2401.04088, fig. 7)."""
    counts = np.asarray(counts, np.float64)
    return ratio(counts, counts.sum(-1, keepdims=True))
