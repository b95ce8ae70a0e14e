"""The upper tail of the hypergeometric distribution, for millions of cells at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

Floats = NDArray[np.float64]
_ENOUGH = 1e-17
"""A tail is summed until a term adds less than this share of it."""


def upper_tail(k: ArrayLike, tokens: ArrayLike, took: ArrayLike, n: ArrayLike) -> Floats:
    """[...] P(X >= k) where X of n tokens, drawn without replacement from `tokens`, are among the `took` marked ones.

    The same as scipy's ``hypergeom.sf(k - 1, tokens, took, n)``, which loops over its arguments in Python. Equal
    arguments are computed once. NaN where the arguments are invalid: `took` or `n` negative or above `tokens`.
    """
    shape = np.broadcast_shapes(*(np.shape(part) for part in (k, tokens, took, n)))
    wide = [np.broadcast_to(np.asarray(part, np.int64), shape).ravel() for part in (k, tokens, took, n)]
    order = np.lexsort(wide)
    cells = np.stack(wide)[:, order]
    first = np.any(np.diff(cells, axis=1, prepend=cells[:, :1] - 1), axis=0)
    tails = np.empty(len(order))
    tails[order] = _tails(*cells[:, first])[np.cumsum(first) - 1]
    return tails.reshape(shape)


def _tails(k: NDArray[np.int64], tokens: NDArray[np.int64], took: NDArray[np.int64], n: NDArray[np.int64]) -> Floats:
    """[m] by the shorter sum: up from k where k is above the mean, else 1 minus the sum below k."""
    least, most = np.maximum(n + took - tokens, 0), np.minimum(n, took)
    valid = (took >= 0) & (n >= 0) & (took <= tokens) & (n <= tokens)
    tails = np.where(valid, np.where(k <= least, 1.0, 0.0), np.nan)
    inside = valid & (k > least) & (k <= most)
    up = k * tokens > n * took
    for step, where in ((1, inside & up), (-1, inside & ~up)):
        start = k[where] if step == 1 else k[where] - 1
        part = _summed(start, tokens[where], took[where], n[where], step)
        tails[where] = part if step == 1 else 1 - part
    return np.clip(tails, 0.0, 1.0)


def _summed(
    k: NDArray[np.int64], tokens: NDArray[np.int64], took: NDArray[np.int64], n: NDArray[np.int64], step: int
) -> Floats:
    """[m] P(X = k) + P(X = k + step) + ..., each term from the one before."""
    x, size, marked, drawn = (part.astype(np.float64) for part in (k, tokens, took, n))
    term, total, live = np.ones(len(x)), np.ones(len(x)), np.arange(len(x))
    while live.size:
        y, good, draws = x[live], marked[live], drawn[live]
        other = size[live] - good - draws  # unmarked tokens left over beyond those not drawn
        up = (good - y) * (draws - y) / ((y + 1) * (other + y + 1))
        down = y * (other + y) / ((good - y + 1) * (draws - y + 1))
        grown = term[live] * (up if step == 1 else down)
        term[live], x[live] = grown, y + step
        total[live] += grown
        live = live[grown > _ENOUGH * total[live]]
    return total * np.exp(_log_probability(k, tokens, took, n))


def _log_probability(
    k: NDArray[np.int64], tokens: NDArray[np.int64], took: NDArray[np.int64], n: NDArray[np.int64]
) -> Floats:
    """[m] ln P(X = k), through beta functions as in scipy, which round less than factorials."""
    others = tokens - took
    return np.asarray(
        betaln(took + 1, 1)
        + betaln(others + 1, 1)
        + betaln(tokens - n + 1, n + 1)
        - betaln(k + 1, took - k + 1)
        - betaln(n - k + 1, others - n + k + 1)
        - betaln(tokens + 1, 1)
    )
