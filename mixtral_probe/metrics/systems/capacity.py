"""Experts of limited capacity: which choices are dropped when each expert takes a limited number of tokens."""

from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc

Floats = NDArray[np.float64]


def expert_capacity(tokens: int, num_experts: int, chosen: int, factor: float) -> int:
    """Return how many tokens of a batch an expert takes: ceil(factor K T / E) (GShard, 2006.16668)."""
    # Rounded before the ceiling: 1.1 * 2 * 40 / 8 is 11, not slightly more.
    return ceil(round(factor * chosen * tokens / num_experts, 9))


def choice_places(ids: ArrayLike, num_experts: int) -> NDArray[np.int64]:
    """[..., T, K] how many tokens before this one chose the same expert; a choice at the capacity or above is dropped.

    Tokens are served in order, so the end of a batch is dropped first; the total dropped is the sum over experts of
    max(0, n_i - capacity). 0 where the id is -1.

    Args:
        ids: [..., T, K] experts chosen by the tokens of one batch; -1 where fewer were chosen.
        num_experts: E.
    """
    chosen = np.asarray(ids)[..., None] == np.arange(num_experts)  # [..., T, K, E]
    before = chosen.any(-2).cumsum(-2) - 1  # [..., T, E]
    return (chosen * before[..., None, :]).sum(-1)


def expected_drops(tokens: int, num_experts: int, chosen: int, factor: float) -> Floats:
    """[T] share of the choices of each token dropped under uniform top-K routing: P(Binomial(t, K/E) >= capacity)."""
    capacity = expert_capacity(tokens, num_experts, chosen, factor)
    before = np.arange(tokens)
    tail = bdtrc(capacity - 1, np.maximum(before, capacity), chosen / num_experts)
    return np.where(before < capacity, 0.0, tail)
