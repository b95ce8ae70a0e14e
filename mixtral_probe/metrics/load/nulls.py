"""Values expected by chance: every token chooses K of E experts, all sets equally likely, independently.

A token's K choices exclude each other, so the counts vary less than K draws with replacement would.
`chosen` may be fractional: the mean number of choices where some tokens chose fewer.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.load.balance import max_violation, uniform_load_variance
from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
DRAWS = 1000
_SMALL_SIZES, _SIZES_PER_DOUBLING = 16, 4


def expected_cv_squared(choices: ArrayLike, num_experts: int) -> Floats:
    """[...] E[CV^2], exactly: (E/K - 1) / T where all T tokens choose K; NaN for no tokens.

    Args:
        choices, num_experts: as in `uniform_load_variance`.
    """
    tokens = np.asarray(choices, np.float64)
    mean = (tokens * np.arange(1, tokens.shape[-1] + 1)).sum(-1) / num_experts
    return ratio(uniform_load_variance(tokens, num_experts), np.square(mean))


def expected_importance_cv_squared(choices: ArrayLike, num_experts: int) -> Floats:
    """[...] E[CV^2] of the experts' summed weights where every token weighs its experts evenly; NaN for no tokens.

    The sum over tokens of E/k - 1, over T^2: exact.

    Args:
        choices, num_experts: as in `uniform_load_variance`.
    """
    tokens = np.asarray(choices, np.float64)
    spread = num_experts / np.arange(1, tokens.shape[-1] + 1) - 1
    return ratio((tokens * spread).sum(-1), np.square(tokens.sum(-1)))


def expected_dead_experts(choices: ArrayLike, num_experts: int) -> Floats:
    """[...] E[number never chosen], exactly: E (1 - K/E)^T where all T tokens choose K; NaN for no tokens.

    Args:
        choices, num_experts: as in `uniform_load_variance`.
    """
    tokens = np.asarray(choices, np.float64)
    missed = 1 - np.arange(1, tokens.shape[-1] + 1) / num_experts
    return np.where(tokens.sum(-1) > 0, num_experts * np.prod(missed**tokens, axis=-1), np.nan)


@lru_cache(maxsize=512)
def uniform_counts(tokens: int, num_experts: int, chosen: float, draws: int = DRAWS, seed: int = 0) -> Floats:
    """[draws, E] simulated counts of T tokens under uniform top-K routing; equal arguments give equal counts.

    Exact: expert by expert, of the tokens with r choices left among m experts a binomial number with chance r / m
    chooses the next one. The cost does not grow with T.
    The result is shared between callers and therefore not writable.
    """
    rng = np.random.default_rng(seed)
    whole = int(chosen)
    waiting = np.zeros((whole + 2, draws), np.int64)  # tokens by the number of choices they have left
    waiting[whole + 1] = round((chosen - whole) * tokens)
    waiting[whole] = tokens - waiting[whole + 1]
    counts = np.zeros((draws, num_experts))
    for expert in range(num_experts):
        left = num_experts - expert
        for choices in range(1, min(whole + 1, left) + 1):
            taken = rng.binomial(waiting[choices], choices / left)
            counts[:, expert] += taken
            waiting[choices] -= taken
            waiting[choices - 1] += taken
    counts.setflags(write=False)
    return counts


def simulated_null(
    metric: Callable[[ArrayLike], Floats], tokens: int, num_experts: int, chosen: float
) -> tuple[float, float]:
    """Return the mean and 95 % point of a metric of counts under uniform top-K routing; NaN for no tokens.

    For the metrics without a closed form (MaxVio, MinVio, Gini, entropy): `uniform_counts`, 1,000 draws, seed 0.
    """
    if tokens == 0 or chosen == 0:
        return float("nan"), float("nan")
    values = metric(uniform_counts(tokens, num_experts, chosen))
    return float(values.mean()), float(np.quantile(values, 0.95))


def expected_max_violation(tokens: ArrayLike, num_experts: int, chosen: ArrayLike) -> Floats:
    """[...] E[MaxVio] of many numbers of tokens T, by `simulated_null`; NaN for no tokens.

    Above 16 tokens four sizes per doubling are simulated and those between interpolated, both in logarithms: MaxVio
    falls like 1 / sqrt(T), so this adds less than a thousandth, where the simulation itself is exact to about 1 %.
    Between two whole numbers of choices MaxVio is taken to be linear in sqrt(E/k - 1), the deviation of a load.

    Args:
        tokens: [...] T.
        num_experts: E.
        chosen: [...] mean number of choices of a token, 1 to E.
    """
    t, k = np.broadcast_arrays(np.asarray(tokens, np.int64), np.asarray(chosen, np.float64))
    k = np.where(t > 0, k, 1.0)
    low, high = np.floor(k), np.ceil(k)
    if np.array_equal(low, high):
        return _max_violation_of(t, num_experts, low.astype(np.int64))
    ends = [_max_violation_of(t, num_experts, whole.astype(np.int64)) for whole in (low, high)]
    deviations = [np.sqrt(num_experts / whole - 1) for whole in (low, k, high)]
    part = np.nan_to_num(ratio(deviations[0] - deviations[1], deviations[0] - deviations[2]))
    return ends[0] + (ends[1] - ends[0]) * part


def _max_violation_of(tokens: NDArray[np.int64], experts: int, chosen: NDArray[np.int64]) -> Floats:
    """[...] the same of whole numbers of choices; each number of tokens and choices is found once."""
    kinds, place = np.unique(tokens * (experts + 1) + chosen, return_inverse=True)
    sizes, choices = np.divmod(kinds, experts + 1)
    means = np.where(sizes > 0, 0.0, np.nan)
    for whole in {*choices.tolist()} - {experts}:
        own = (choices == whole) & (sizes > 0)
        if own.any():
            means[own] = _interpolated(_max_violation, sizes[own], experts, whole)
    return means[place.reshape(tokens.shape)]


def _interpolated(
    mean: Callable[[int, int, int], float], sizes: NDArray[np.int64], experts: int, chosen: int
) -> Floats:
    """[sizes] a positive mean at each number of tokens, simulated only at the few sizes next to those needed."""
    doublings = int(np.ceil(np.log2(max(sizes.max() / _SMALL_SIZES, 1)))) * _SIZES_PER_DOUBLING
    more = _SMALL_SIZES * 2.0 ** (np.arange(1, doublings + 1) / _SIZES_PER_DOUBLING)
    knots = np.concatenate([np.arange(1, _SMALL_SIZES + 1), np.round(more).astype(np.int64)])
    upper = np.searchsorted(knots, sizes)
    needed = knots[np.unique(np.concatenate([upper, upper - (knots[upper] > sizes)]))]
    means = [mean(int(size), experts, chosen) for size in needed]
    return np.exp(np.interp(np.log(sizes), np.log(needed), np.log(means)))


@lru_cache(maxsize=512)
def _max_violation(tokens: int, num_experts: int, chosen: int) -> float:
    return simulated_null(max_violation, tokens, num_experts, chosen)[0]
