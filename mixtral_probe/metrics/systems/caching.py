"""A cache that holds some of a layer's experts while a text is read token by token: hit rates of replacement policies.

A token's experts are loaded one after another, strongest first; none of them is evicted while the token is served.
Each window begins with an empty cache, except under `static`, whose experts are loaded from the beginning and stay.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]
POLICIES = ("lru", "lfu", "belady", "static")
"""Evict the least recently used, the least often used in this window, or the one needed furthest ahead (Belady 1966);
or keep the most loaded."""
_USE = 2**24
"""What one use counts under LFU: more than there are uses in a window."""
_LOADED, _EMPTY = 2**46, -1
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
    tokens = np.ascontiguousarray(np.moveaxis(requests, 0, -1))  # [S, K, W]
    stack = _Stack(num_experts, len(requests))
    for chosen, values in zip(tokens, _VALUES[policy](tokens, num_experts), strict=True):
        stack.serve(chosen, values)
    before, after = (found.cumsum(0)[np.asarray(capacities) - 1].T for found in (stack.before, stack.after))
    return before, after


class _Stack:
    """The caches of W windows at every capacity, as stacks: a cache of C experts holds the first C.

    A policy that evicts by a value which does not depend on the capacity keeps all that a smaller cache keeps, so that
    one stack has the caches of all capacities (Mattson, Gecsei, Slutz & Traiger 1970).
    """

    def __init__(self, num_experts: int, windows: int) -> None:
        self._bits = num_experts.bit_length()
        self._expert, self._windows = 2**self._bits - 1, np.arange(windows)
        self._key = np.full((num_experts, windows), _EMPTY, np.int64)
        """[E, W] value and, in the lowest bits, number of the expert in each place."""
        self._places = np.arange(num_experts, dtype=np.int16)[:, None]
        self._filled = np.zeros(windows, np.int64)
        """[W] places with an expert."""
        self.before = np.zeros((num_experts + 1, windows), np.int64)
        """[E + 1, W] choices by the place at which they were found, the last: not at all."""
        self.after = np.zeros_like(self.before)

    def serve(self, chosen: Places, values: Integers) -> None:
        """Look up and load the experts [K, W] of one token per window; `values` [K, W] are theirs after it."""
        for expert in chosen:
            self.before[self._place(expert), self._windows] += 1
        for expert in chosen:
            place = self._place(expert)
            self.after[place, self._windows] += 1
            self._load(expert, place)
        # Those loaded last are on top.
        above = (chosen >= 0)[::-1].cumsum(0)[::-1] - 1
        for expert, value, place in zip(chosen, values, above, strict=True):
            some = np.flatnonzero(expert >= 0)
            self._key[place[some], some] = (value << self._bits | expert)[some]

    def _place(self, expert: Places) -> NDArray[np.int16]:
        """[W] the place of an expert in each stack; E where it is not."""
        found = (self._key & self._expert) == expert
        place: NDArray[np.int16] = np.where(found, self._places, np.int16(len(found))).min(0)
        return place

    def _load(self, expert: Places, place: NDArray[np.int16]) -> None:
        """Put an expert on top of each stack, from its place or anew, not to be evicted until the token is served.

        On its way to the free place the lowest expert met so far is carried along and each higher one stays, which is
        what a cache of that size keeps.
        """
        free = np.where(expert >= 0, np.minimum(place, self._filled), -1).astype(np.int16)
        carried = self._key[:-1].copy()
        for above, below in pairwise(carried):  # ten times as fast as np.minimum.accumulate along the first axis
            np.minimum(above, below, out=below)
        stays = np.where(self._places[1:] < free, np.maximum(carried, self._key[1:]), carried)
        moved = np.concatenate([(_LOADED << self._bits | expert)[None], stays])
        self._key = np.where(self._places <= free, moved, self._key)
        self._filled += (free >= 0) & (place == len(self._key))


def _times(tokens: Places, num_experts: int) -> Integers:
    """[S, K, W] when each expert was used last: now."""
    steps, chosen, _ = tokens.shape
    return np.broadcast_to(np.arange(1, steps * chosen + 1).reshape(steps, chosen, 1), tokens.shape)


def _uses(tokens: Places, num_experts: int) -> Integers:
    """[S, K, W] how often each expert was used; between equal counts the last use decides."""
    windows, uses = np.arange(tokens.shape[-1]), np.empty(tokens.shape, np.int64)
    count = np.zeros((num_experts + 1, len(windows)), np.int64)  # the last row: of no expert (-1)
    for chosen, use in zip(tokens, uses, strict=True):
        for rank, expert in enumerate(chosen):
            count[expert, windows] += 1
            use[rank] = count[expert, windows]
    return uses * _USE + _times(tokens, num_experts)


def _next_uses(tokens: Places, num_experts: int) -> Integers:
    """[S, K, W] minus the step at which each expert is used next; -S where it never is."""
    windows, following = np.arange(tokens.shape[-1]), np.empty(tokens.shape, np.int64)
    coming = np.full((num_experts + 1, len(windows)), -len(tokens))  # the last row: of no expert (-1)
    for step in range(len(tokens) - 1, -1, -1):
        following[step] = coming[tokens[step], windows]
        coming[tokens[step], windows] = -step
    return following


_VALUES = {"lru": _times, "lfu": _uses, "belady": _next_uses}
"""What each policy evicts the lowest of."""


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
