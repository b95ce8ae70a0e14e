"""Experts of limited capacity: which choices would be dropped when each expert takes only so many tokens of a batch."""

from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

Floats = NDArray[np.float64]


def expert_capacity(tokens: int, num_experts: int, chosen: int, factor: float) -> int:
    """How many tokens of a batch an expert takes: ceil(factor K T / E) (GShard, 2006.16668)."""
    # Rounded before the ceiling: 1.1 * 2 * 40 / 8 is 11, and not a little more.
    return ceil(round(factor * chosen * tokens / num_experts, 9))


def dropped_choices(ids: ArrayLike, num_experts: int, capacity: int) -> NDArray[np.bool_]:
    """[T, K] choices that find their expert full; tokens come in their order, so the end of a batch is dropped first.

    Their number is the sum over experts of max(0, n_i - capacity).

    Args:
        ids: [T, K] experts chosen by the tokens of one batch; -1 where fewer were chosen.
        num_experts: E.
        capacity: tokens an expert takes.
    """
    chosen = np.asarray(ids)[..., None] == np.arange(num_experts)  # [T, K, E]
    before = chosen.any(1).cumsum(0) - 1  # [T, E] tokens of the expert before this one
    return (chosen & (before >= capacity)[:, None]).any(-1)


def expected_drops(tokens: int, num_experts: int, chosen: int, factor: float) -> Floats:
    """[T] share of the choices of each token dropped under uniform top-K routing: P(Binomial(t, K/E) >= capacity)."""
    capacity = expert_capacity(tokens, num_experts, chosen, factor)
    return binom.sf(capacity - 1, np.arange(tokens), chosen / num_experts)
