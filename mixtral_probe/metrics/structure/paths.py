"""Paths: the first choices of a token in all layers, one after the other."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import share

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def path_counts(first: ArrayLike) -> tuple[Integers, Integers, Integers]:
    """Return the distinct paths [P, L], most frequent first, then in ascending order; how often each occurs [P]; and
    the index of each token's path [T].

    Args:
        first: [L, T] first choice of each token in each layer.
    """
    ids = np.asarray(first, np.int64)
    code = np.zeros(ids.shape[1], np.int64)
    for row in ids:  # numbered again at every layer: E to the power of L would not fit an integer
        code = np.unique(code * (int(ids.max(initial=0)) + 1) + row, return_inverse=True)[1].reshape(-1)
    _, where, counts = np.unique(code, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return ids[:, where[order]].T, counts[order], place[code]


def entropy_bits(counts: ArrayLike) -> Floats:
    """[...] plug-in entropy of counts [..., N], bits, in [0, log2 N]; NaN for no counts. Too low for few counts."""
    f = share(counts)
    return -(f * np.log2(np.where(f > 0, f, 1.0))).sum(-1)
