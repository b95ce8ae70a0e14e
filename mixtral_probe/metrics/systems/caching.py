"""A cache that holds some of a layer's experts while a text is read token by token: hit rates of replacement policies.

A token's experts are loaded one after another, strongest first; none of them is evicted while the token is served.
Each window begins with an empty cache, except under `static`, whose experts are loaded from the beginning and stay.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
POLICIES = ("lru", "lfu", "belady", "static")
"""Evict the least recently used, the least often used in this window, or the one needed furthest ahead (Belady 1966);
or keep the most loaded."""
_DRAWN = 64
_NEGLIGIBLE = 1e-13


def cache_hits(ids: ArrayLike, num_experts: int, capacities: Sequence[int], policy: str) -> tuple[Integers, Integers]:
    """Count the hits of each window by capacity: [W, C] with all of a token's experts looked up before any is loaded,
    and [W, C] with one after another, strongest first.

    Args:
        ids: [W, S, K] experts each token of each window chose; -1 behind the end of a window.
        num_experts: E.
        capacities: [C] experts that fit, each at least K.
        policy: one of `POLICIES`; `static` keeps the experts that the windows together chose most.
    """
    requests = np.asarray(ids, np.intp)
    if policy == "static":
        counts = (requests[..., None] == np.arange(num_experts)).sum((1, 2))
        hits = static_cache_hits(counts, capacities)
        return hits, hits
    cache = _Cache(len(requests), num_experts, capacities, policy)
    ahead = _next_use(requests, num_experts) if policy == "belady" else None
    for step in range(requests.shape[1]):
        cache.serve(requests[:, step], step, None if ahead is None else ahead[:, step])
    return cache.before, cache.after


class _Cache:
    """The caches of W windows at C capacities."""

    def __init__(self, windows: int, num_experts: int, capacities: Sequence[int], policy: str) -> None:
        self._policy, self._capacities = policy, np.asarray(capacities)
        self._cached = np.zeros((windows, len(self._capacities), num_experts), bool)
        self._value = np.zeros((windows, num_experts))
        self.before = np.zeros((windows, len(self._capacities)), np.int64)
        self.after = np.zeros_like(self.before)

    def serve(self, chosen: NDArray[np.intp], step: int, ahead: Floats | None) -> None:
        """Look up and load the experts [W, K] of one token per window; `ahead` [W, E] when each is needed next."""
        windows = [np.flatnonzero(chosen[:, rank] >= 0) for rank in range(chosen.shape[1])]
        for rank, window in enumerate(windows):
            self.before[window] += self._cached[window, :, chosen[window, rank]]
        if ahead is not None:
            self._value = -ahead
        loaded = np.zeros(self._value.shape, bool)
        for rank, window in enumerate(windows):
            expert = chosen[window, rank]
            self.after[window] += self._cached[window, :, expert]
            self._update_value(window, expert, step * chosen.shape[1] + rank + 1)
            loaded[window, expert] = True
            self._load(window, expert, np.where(loaded, np.inf, self._value)[window])

    def _update_value(self, window: NDArray[np.intp], expert: NDArray[np.intp], time: int) -> None:
        """Raise the value of the experts used; between equal counts the last use decides."""
        if self._policy == "lru":
            self._value[window, expert] = time
        elif self._policy == "lfu":
            self._value[window, expert] = np.floor(self._value[window, expert]) + 1 + time * 1e-9

    def _load(self, window: NDArray[np.intp], expert: NDArray[np.intp], value: Floats) -> None:
        """Insert an expert, evicting the lowest-valued one where the cache is full."""
        full = (self._cached[window].sum(-1) >= self._capacities) & ~self._cached[window, :, expert]
        row, column = np.nonzero(full)
        cached = np.where(self._cached[window[row], column], value[row], np.inf)
        self._cached[window[row], column, cached.argmin(-1)] = False
        self._cached[window, :, expert] = True


def _next_use(requests: NDArray[np.intp], num_experts: int) -> Floats:
    """[W, S, E] the step, this one or later, at which each expert is next used; S where it never is."""
    windows, steps, _ = requests.shape
    following = np.empty((windows, steps, num_experts))
    coming = np.full((windows, num_experts), float(steps))
    for step in range(steps - 1, -1, -1):
        window, rank = np.nonzero(requests[:, step] >= 0)
        coming[window, requests[window, step, rank]] = step
        following[:, step] = coming
    return following


def static_cache_hits(counts: ArrayLike, capacities: Sequence[int]) -> Integers:
    """[W, C] hits of a cache that keeps the experts all windows together chose most, from counts [W, E] of choices."""
    n = np.asarray(counts, np.int64)
    order = np.argsort(-n.sum(0), kind="stable")
    return n[:, order].cumsum(-1)[:, np.asarray(capacities) - 1]


def uniform_cache_hit_rate(lengths: Sequence[int], num_experts: int, chosen: int, capacity: int) -> tuple[float, float]:
    """Return the exact hit rate, before and after as in `cache_hits`, under uniform top-K routing; NaN for no tokens.

    For every policy that does not look ahead: until C different experts were chosen a cache holds all of them, then C
    of them, each set equally likely. In the long run C/E, and the mean of (C - r)/(E - r) over the ranks r.

    Args:
        lengths: [W] tokens of each window.
        num_experts: E.
        chosen: K.
        capacity: C, at least K.
    """
    n = np.asarray(lengths, np.int64)
    if n.sum() == 0:
        return float("nan"), float("nan")
    before, after = (rate.cumsum() for rate in _uniform_rates(int(n.max()), num_experts, chosen, capacity))
    n = n[n > 0]
    return float(before[n - 1].sum() / n.sum()), float(after[n - 1].sum() / n.sum())


@lru_cache(maxsize=256)
def _uniform_rates(steps: int, num_experts: int, chosen: int, capacity: int) -> tuple[Floats, Floats]:
    """[steps] hit rate of the tokens at each place of a window."""
    different = np.arange(num_experts + 1)
    seen = np.eye(1, num_experts + 1)[0]  # probability that d different experts were chosen so far
    grown = [_growth(rank, num_experts) for rank in range(chosen + 1)]
    before, after = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        before[step] = seen @ np.minimum(different, capacity) / num_experts
        for rank in range(chosen):
            # Of the rank experts loaded for this token some were new; the rest of the cache is older ones.
            older = seen @ grown[rank] @ (np.minimum(different, capacity) - rank).clip(0)
            after[step] += older / (num_experts - rank) / chosen
        if seen[-1] == 1:
            before[step:], after[step:] = before[step], after[step]
            break
        seen = seen @ grown[chosen]
        seen[seen < _NEGLIGIBLE] = 0
        seen /= seen.sum()
    return before, after


def _growth(chosen: int, num_experts: int) -> Floats:
    """[E + 1, E + 1] from the number of different experts so far to that after a token chose `chosen` more."""
    out = np.zeros((num_experts + 1, num_experts + 1))
    for before in range(num_experts + 1):
        for new in range(min(chosen, num_experts - before) + 1):
            ways = comb(num_experts - before, new) * comb(before, chosen - new)
            out[before, before + new] = ways / comb(num_experts, chosen)
    return out


@lru_cache(maxsize=64)
def simulated_cache_hit_rate(
    steps: int, num_experts: int, chosen: int, capacity: int, policy: str
) -> tuple[float, float]:
    """Return the hit rate, before and after as in `cache_hits`, under uniform top-K routing, of 64 drawn windows of S
    tokens.

    For the policies that use the whole text, which have no closed form.
    """
    drawn = np.random.default_rng(0).random((_DRAWN, steps, num_experts)).argsort(-1)[..., :chosen]
    hits = cache_hits(drawn, num_experts, (capacity,), policy)
    return tuple(float(count.sum() / drawn.size) for count in hits)  # type: ignore[return-value]
