"""Values expected by chance: every token chooses K of E experts, all sets equally likely, independently.

A token's K choices exclude each other, so the counts vary less than K draws with replacement would.
`chosen` may be fractional: the mean number of choices where some tokens chose fewer.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.load.balance import max_violation
from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
DRAWS = 1000
_SMALL_SIZES, _SIZES_PER_DOUBLING = 16, 4


def expected_cv_squared(tokens: ArrayLike, num_experts: int, chosen: ArrayLike) -> Floats:
    """[...] E[CV^2] = (E/K - 1) / T, exactly; NaN for no tokens."""
    return ratio(num_experts / np.asarray(chosen, np.float64) - 1, tokens)


def expected_dead_experts(tokens: ArrayLike, num_experts: int, chosen: ArrayLike) -> Floats:
    """[...] E[number never chosen] = E (1 - K/E)^T, exactly; NaN for no tokens."""
    tokens = np.asarray(tokens, np.float64)
    expected = num_experts * (1 - np.asarray(chosen, np.float64) / num_experts) ** tokens
    return np.where(tokens > 0, expected, np.nan)


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


def expected_max_violation(tokens: ArrayLike, num_experts: int, chosen: int) -> Floats:
    """[...] E[MaxVio] of many numbers of tokens T, by `simulated_null`; NaN for no tokens.

    Above 16 tokens four sizes per doubling are simulated and those between interpolated, both in logarithms: MaxVio
    falls like 1 / sqrt(T), so this adds less than a thousandth, where the simulation itself is exact to about 1 %.
    """
    sizes, place = np.unique(np.asarray(tokens, np.int64), return_inverse=True)
    means = np.where(sizes > 0, 0.0, np.nan)
    if chosen < num_experts and (sizes > 0).any():
        means[sizes > 0] = _interpolated(_max_violation, sizes[sizes > 0], num_experts, chosen)
    return means[place].reshape(np.shape(tokens))


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
