"""How much of a token type's routing goes to one expert: vocabulary specialization, and its value by chance.

`counts` is `[..., V, E]`: how often the tokens of each of V types chose each expert. K is how many a token chooses.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
Weighting = Literal["type", "token"]
SETS = 2**14
_COUNTED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64)
"""Numbers of tokens that are drawn one by one; between them the curve is straight in the logarithm."""
_DOUBLINGS = 40


def occurrences(counts: ArrayLike, *, chosen: int = 1) -> Floats:
    """[..., V] N(x) = sum_e N(x, e) / K, how many tokens each type has, if every token chose K experts."""
    return np.asarray(counts, np.float64).sum(-1) / chosen


def type_weights(n: ArrayLike, *, min_count: int = 1, weighting: Weighting = "type") -> Floats:
    """[..., V] weight of each type in a mean: 1 or its tokens N(x), and 0 where N(x) < `min_count`."""
    tokens = np.asarray(n, np.float64)
    return np.where(tokens >= min_count, tokens if weighting == "token" else 1.0, 0.0)


def largest_share(counts: ArrayLike, n: ArrayLike) -> Floats:
    """[..., V] max_e N(x, e) / N(x) of types with n tokens [..., V], at most 1; NaN for a type without tokens."""
    return ratio(np.asarray(counts).max(-1, initial=0), n)


def vocabulary_specialization(
    counts: ArrayLike, n: ArrayLike, *, min_count: int = 1, weighting: Weighting = "type"
) -> Floats:
    """[...] mean over types of max_e N(x, e) / N(x), in [K/E, 1] (OLMoE, 2409.02060, eq. 8, as in its code).

    A type with one token always scores 1: compare it with `expected_largest_share` of as many tokens, or
    use `vocabulary_specialization_crossval`. OLMoE's layer values have no minimum count, its table 8 has 10.

    Args:
        counts: [..., V, E].
        n: [..., V] tokens of each type, N(x).
        min_count: least number of tokens of a type.
        weighting: every type equally, or each by its tokens.
    """
    weights = type_weights(n, min_count=min_count, weighting=weighting)
    return mean_over_types(largest_share(counts, n), weights)


def mean_over_types(values: ArrayLike, weights: ArrayLike) -> Floats:
    """[...] weighted mean over the last axis of the types with a weight; NaN where none has."""
    w = np.asarray(weights, np.float64)
    return ratio((w * np.where(w > 0, values, 0.0)).sum(-1), w.sum(-1))


def expected_largest_share(n: ArrayLike, frequency: ArrayLike) -> Floats:
    """[...] E[max_e N(x, e) / N(x)] of types of n tokens which choose by the experts' loads, independent of their type.

    Simulated with a fixed seed: up to 64 tokens choose one by one (error about .003), each K different experts with
    exactly these frequencies (systematic sampling in a random order, Madow 1949); more are drawn from the normal
    distribution with their mean and covariance. For uniform top-2 of 8: n = 1 gives 1, 2 .732, 10 .470, 100 .316, 1000
    .271.

    Args:
        n: [...] tokens of each type, at least 1.
        frequency: [E] share of tokens that choose each expert, F_i, sum K.
    """
    at, curve = _curve(tuple(np.asarray(frequency, np.float64).round(12).tolist()))
    return np.interp(np.log(np.maximum(np.asarray(n, np.float64), 1)), at, curve)


@lru_cache(maxsize=1024)
def _curve(frequency: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return log n and E[max share] at the numbers of tokens that are simulated, and at doublings beyond."""
    rate = np.array(frequency)
    sets = _choices(rate)
    taken = np.concatenate([np.zeros((len(rate), 1), np.int64), sets.cumsum(1)], axis=1)  # [E, SETS + 1]
    means = [np.diff(taken[:, ::n]).max(0).mean() / n for n in _COUNTED]
    values, vectors = np.linalg.eigh(np.cov(sets).reshape(len(rate), -1))
    root = vectors * np.sqrt(np.maximum(values, 0))
    noise = np.ascontiguousarray((_normals(len(rate)) @ root.T).T)
    beyond = _COUNTED[-1] * 2.0 ** np.arange(1, _DOUBLINGS)
    means += [(rate[:, None] + noise / np.sqrt(n)).max(0).mean() for n in beyond]
    return np.log(np.concatenate([_COUNTED, beyond])), np.array(means)


def _choices(rate: Floats) -> NDArray[np.int64]:
    """[E, SETS] 1 where a token chose the expert; every expert has exactly its rate."""
    order, start = _draws(len(rate))
    ends = np.ceil(rate[order].cumsum(0) - start)
    taken = np.diff(ends, axis=0, prepend=0.0).astype(np.int64)
    sets = np.zeros(order.shape, np.int64)
    np.put_along_axis(sets, order, taken, axis=0)
    return sets


@lru_cache(maxsize=4)
def _draws(num_experts: int) -> tuple[NDArray[np.intp], Floats]:
    """[E, SETS] orders of the experts, and [SETS] starts in [0, 1)."""
    rng = np.random.default_rng(0)
    return np.ascontiguousarray(rng.random((SETS, num_experts)).argsort(-1).T), rng.random(SETS)


@lru_cache(maxsize=4)
def _normals(num_experts: int) -> Floats:
    """[4000, E]"""
    return np.random.default_rng(1).standard_normal((4000, num_experts))
