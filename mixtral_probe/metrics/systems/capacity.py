"""Experts of limited capacity: which choices are dropped when each expert takes a limited number of tokens."""

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, gammaln

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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


def exchanged_drops(counts: ArrayLike, tokens: int, length: int, capacity: int) -> Floats:
    """[..., S] choices of each token of a window that are dropped on average if the tokens exchange their places.

    sum_e n_e / T P(Hypergeometric(T - 1, n_e - 1, t) >= capacity): the token at place t chose expert e, and so did at
    least as many of the t tokens before it as the expert takes. Where the window has all T tokens, the sum over t is
    exactly the number dropped, sum_e max(0, n_e - capacity), whatever their order.

    Args:
        counts: [..., E] n_e, tokens that chose each expert, in all windows.
        tokens: T, of all windows.
        length: S, of this window, at most T.
        capacity: tokens that an expert takes, at least 1.
    """
    n = np.asarray(counts, np.int64)
    place = np.arange(length)
    chance = np.zeros((*n.shape, length))
    # P(t + 1) - P(t): the t earlier tokens filled all but one of the expert's places, and the next takes that.
    filled = _hypergeometric(tokens - 1, n[..., None] - 1, place[:-1], capacity - 1)
    left = np.maximum(n[..., None] - capacity, 0) / np.maximum(tokens - 1 - place[:-1], 1)
    chance[..., 1:] = (filled * left).cumsum(-1)
    return (n[..., None] / max(tokens, 1) * chance).sum(-2)


@lru_cache(maxsize=32)
def _log_factorials(most: int) -> Floats:
    """[most + 1] the natural logarithm of 0!, 1!, ..."""
    return gammaln(np.arange(1, most + 2))


def _hypergeometric(total: int, marked: Integers, drawn: Integers, found: int) -> Floats:
    """[...] chance that of `drawn` tokens of a total, drawn without replacement, `found` are among those marked."""
    logs = _log_factorials(max(total, 0))
    others, rest = drawn - found, marked - found
    possible = (others >= 0) & (rest >= 0) & (others <= total - marked)
    d, m, o, r = (np.where(possible, array, 0) for array in np.broadcast_arrays(drawn, marked, others, rest))
    ways = logs[d] - logs[found * possible] - logs[o] + logs[total - d] - logs[r] - logs[total - d - r]
    return np.where(possible, np.exp(ways - logs[total] + logs[m] + logs[total - m]), 0.0)
