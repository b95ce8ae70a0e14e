"""Two sets of experts that one token chose: functions of how many they have in common and of their sizes.

Counts broadcast against each other; every set has at least one expert.
"""

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
OfSets = Callable[[ArrayLike, ArrayLike, ArrayLike], Floats]
"""A function of the experts in common and the sizes of two sets."""


def set_overlap(common: ArrayLike, one: ArrayLike, other: ArrayLike) -> Floats:
    """[...] experts in common / experts of the larger set, in [0, 1]; uniform K/E (OLMoE, 2409.02060, eq. 5)."""
    return np.asarray(common, np.float64) / np.maximum(one, other)


def same_set(common: ArrayLike, one: ArrayLike, other: ArrayLike) -> Floats:
    """[...] 1 where the sets are equal, else 0."""
    return (np.asarray(common) == np.maximum(one, other)).astype(np.float64)


def set_jaccard(common: ArrayLike, one: ArrayLike, other: ArrayLike) -> Floats:
    """[...] experts in both sets / experts in either, in [0, 1]; uniform top-2 of 8: 5/28."""
    both = np.asarray(common, np.float64)
    return both / (np.asarray(one) + np.asarray(other) - both)


def set_hamming(common: ArrayLike, one: ArrayLike, other: ArrayLike) -> Floats:
    """[...] experts in only one of the sets, in [0, 2K]; uniform 2K (1 - K/E)."""
    return np.asarray(one) + np.asarray(other) - 2 * np.asarray(common, np.float64)


def uniform_sets(formula: OfSets, num_experts: int, one: int, other: int) -> float:
    """Return the mean of a formula over two sets of these sizes, drawn uniformly and independently (hypergeometric)."""
    common = range(max(0, one + other - num_experts), min(one, other) + 1)
    ways = np.array([comb(one, c) * comb(num_experts - one, other - c) for c in common], np.float64)
    return float(ways @ formula(np.array(common), one, other)) / comb(num_experts, other)
