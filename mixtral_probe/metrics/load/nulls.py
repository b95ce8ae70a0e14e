"""Values expected by chance: every token chooses K of E experts, all sets equally likely, independently.

A token's K choices exclude each other, so the counts vary less than K draws with replacement would.
`chosen` may be fractional: the mean number of choices where some tokens chose fewer.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
DRAWS = 1000
_EXACT_SIZE = 4096


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

    Few tokens (T E up to 4096) are drawn one by one. More are drawn from the multivariate normal with the exact mean
    T K/E and covariance T K/E (1 - K/E) E/(E-1) (I - 1/E), not rounded, and clipped at 0: counts of hundreds of
    tokens per expert are normal to well within the error of the simulation, about 3 %.
    The result is shared between callers and therefore not writable.
    """
    rng = np.random.default_rng(seed)
    if tokens * num_experts <= _EXACT_SIZE and float(chosen).is_integer():
        counts = _drawn_one_by_one(rng, tokens, num_experts, int(chosen), draws)
    else:
        rate = chosen / num_experts
        noise = rng.standard_normal((draws, num_experts))
        noise -= noise.mean(-1, keepdims=True)
        deviation = np.sqrt(tokens * rate * (1 - rate) * num_experts / max(num_experts - 1, 1))
        counts = np.maximum(tokens * rate + deviation * noise, 0.0)
    counts.setflags(write=False)
    return counts


def _drawn_one_by_one(rng: np.random.Generator, tokens: int, num_experts: int, chosen: int, draws: int) -> Floats:
    counts = np.zeros((draws, num_experts))
    rows = np.arange(draws)[:, None]
    for _ in range(tokens):
        counts[rows, rng.random((draws, num_experts)).argsort(-1)[:, :chosen]] += 1
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
