"""What serving would do with the routing, simulated token by token from raw arrays."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from tests.referee.counting import ALL, Place, choices, counted, groups_of, place, windows_of
from tests.referee.losses import share
from tests.referee.record import LAYERS, Record
from tests.referee.rows import UNCHECKED, Row, row_of

Window = list[list[int]]
"""The choices of each token of a window, in the order of the text."""
Part = tuple[float, float, int]
"""Top and bottom of a ratio, and n."""


def layer_windows(record: Record, layer: int, group: str) -> list[Window]:
    """The windows of a group, of tokens that count; one that went to no expert in the layer has no choice."""
    windows = [[t for t in window if counted(record, t, group)] for window in windows_of(record)]
    return [[choices(record, layer, t) for t in window] for window in windows if window]


def routed(windows: list[Window]) -> int:
    """How many tokens went to experts."""
    return sum(bool(chosen) for window in windows for chosen in window)


def ratio_rows(metric: str, keys: tuple, parts: dict[tuple, Part], null: float | None = UNCHECKED) -> Iterator[Row]:
    """Rows of each layer and group, and of all layers: sum of the tops / sum of the bottoms, n of the largest layer."""
    for (layer, group), (top, bottom, n) in parts.items():
        yield row_of((layer, group, *keys), metric, top / bottom if bottom else np.nan, null, n)
    for group in dict.fromkeys(group for _, group in parts):
        tops, bottoms, n = zip(*(part for (_, name), part in parts.items() if name == group), strict=True)
        value = sum(tops) / sum(bottoms) if sum(bottoms) else np.nan
        yield row_of((None, group, *keys), metric, value, null, max(n))


def by_place(record: Record, part: Callable[[int, str], Any]) -> dict[tuple, Any]:
    """The part of every layer and group."""
    return {(LAYERS[layer], group): part(layer, group) for layer in range(len(LAYERS)) for group in groups_of(record)}


def cache_simulation(record: Record) -> Iterator[Row]:
    policies = product(("lru", "lfu", "belady", "static"), range(record.chosen, record.experts))
    for (policy, capacity), (metric, together) in product(
        policies, (("hit_rate", True), ("hit_rate_sequential", False))
    ):
        part = partial(_hits, record, policy, capacity, together)
        yield from ratio_rows(metric, (policy, capacity), by_place(record, part))


def _hits(record: Record, policy: str, capacity: int, together: bool, layer: int, group: str) -> Part:
    windows = layer_windows(record, layer, group)
    popular = by_load(place(record, layer, ALL).counts())[:capacity]
    cached = popular if policy == "static" else []
    hits = sum(hits_of(window, policy, capacity, cached, together) for window in windows)
    return hits, sum(len(c) for w in windows for c in w), routed(windows)


def by_load(counts: np.ndarray) -> list[int]:
    return sorted(range(len(counts)), key=lambda expert: -counts[expert])


def hits_of(window: Window, policy: str, capacity: int, cached: list[int], together: bool) -> int:
    """Read a window with an empty cache (static: a full one) and count the choices found.

    Args:
        window: the choices of each token.
        policy: which expert leaves when one must.
        capacity: experts that fit.
        cached: what is in the cache at first.
        together: whether all choices of a token are looked up before any is loaded.
    """
    cache, stream = list(cached), [expert for chosen in window for expert in chosen]
    hits, time = 0, 0
    for chosen in window:
        hits += sum(expert in cache for expert in chosen) if together else 0
        for rank, expert in enumerate(chosen):
            hits += 0 if together else expert in cache
            if expert not in cache and policy != "static":
                if len(cache) == capacity:
                    others = [other for other in cache if other not in chosen[:rank]]
                    cache.remove(leaving(policy, others, stream, time))
                cache.append(expert)
            time += 1
    return hits


def leaving(policy: str, cache: list[int], stream: list[int], time: int) -> int:
    """The expert that leaves before the choice at a time, none of the token's own: used longest ago; used least, of
    those longest ago; or needed latest."""
    past, future = stream[:time], stream[time:]
    last = {expert: max(t for t, e in enumerate(past) if e == expert) for expert in cache}
    if policy == "lru":
        return min(cache, key=lambda expert: last[expert])
    if policy == "lfu":
        return min(cache, key=lambda expert: (past.count(expert), last[expert]))
    return max(cache, key=lambda expert: future.index(expert) if expert in future else len(stream))


def capacity_simulation(record: Record) -> Iterator[Row]:
    for factor in (1.0, 1.25, 1.5, 2.0):
        drops = by_place(record, lambda layer, group, factor=factor: dropped(record, layer, group, factor))
        for bin_ in (None, *range(5)):
            inside = {where: [d for d in found if bin_ in (None, d[0].bit_length())] for where, found in drops.items()}
            parts = {
                where: (sum(d[1] for d in found), sum(d[2] for d in found), len(found))
                for where, found in inside.items()
            }
            edges = (np.nan, np.nan) if bin_ is None else (0.0 if bin_ == 0 else 2.0 ** (bin_ - 1), 2.0**bin_)
            keys = (factor, bin_, *edges)
            yield from (row for row in ratio_rows("dropped_share", keys, parts) if row.n or bin_ is None)


def dropped(record: Record, layer: int, group: str, factor: float) -> list[tuple[int, int, int]]:
    """Place in its window, choices dropped and choices of every token, where each window is a batch."""
    found = []
    for window in layer_windows(record, layer, group):
        capacity = ceil(round(factor * record.chosen * len(window) / record.experts, 9))
        taken = [0] * record.experts
        for number, chosen in enumerate(window):
            full = 0
            for expert in chosen:
                full += taken[expert] >= capacity
                taken[expert] += 1
            found += [(number, full, len(chosen))] if chosen else []
    return found


def placement_simulation(record: Record) -> Iterator[Row]:
    experts = record.experts
    for ranks in (size for size in range(2, experts + 1) if experts % size == 0):
        size = experts // ranks
        in_order = [list(range(rank * size, (rank + 1) * size)) for rank in range(ranks)]
        fixed = dict.fromkeys(range(len(LAYERS)), in_order)
        yield from imbalance_rows(record, "rank_imbalance", (ranks, experts), fixed)
        yield from device_loss(record, in_order)
        for replicas in (experts, experts + ranks):
            fit = {layer: eplb(place(record, layer, ALL).counts(), replicas, ranks) for layer in range(len(LAYERS))}
            yield from imbalance_rows(record, "rank_imbalance_eplb", (ranks, replicas), fit)


def imbalance_rows(record: Record, metric: str, keys: tuple, placement: dict[int, list]) -> Iterator[Row]:
    """Busiest rank / mean rank; over all layers the sum of the busiest / the sum of the means."""

    def part(layer: int, group: str) -> Part:
        at = place(record, layer, group)
        loads = rank_loads(at.counts(), placement[layer])
        return max(loads), sum(loads) / len(loads), at.n

    yield from ratio_rows(metric, keys, by_place(record, part))


def rank_loads(counts: np.ndarray, placement: list[list[int]]) -> list[float]:
    """Load of each rank, that of an expert divided evenly among its replicas."""
    copies = [sum(rank.count(expert) for rank in placement) for expert in range(len(counts))]
    return [sum(counts[expert] / copies[expert] for expert in rank) for rank in placement]


def eplb(counts: np.ndarray, replicas: int, ranks: int) -> list[list[int]]:
    """The global policy of EPLB: copy the expert with most load for each replica, then put the heaviest replica into
    the lightest rank with room."""
    copies = [1] * len(counts)
    items = list(range(len(counts)))
    while len(items) < replicas:
        most = max(range(len(counts)), key=lambda expert: counts[expert] / copies[expert])
        copies[most] += 1
        items.append(most)
    placed: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for expert in sorted(items, key=lambda expert: -counts[expert] / copies[expert]):
        free = [rank for rank in range(ranks) if len(placed[rank]) < replicas // ranks]
        lightest = min(free, key=lambda rank: loads[rank])
        placed[lightest].append(expert)
        loads[lightest] += counts[expert] / copies[expert]
    return placed


def device_loss(record: Record, placement: list[list[int]]) -> Iterator[Row]:
    """DeepSeekMoE, eqs. 15-17: sum over devices of (mean of E f) x (sum of P) of their experts."""
    for layer in range(len(LAYERS)):
        for group in groups_of(record):
            at = place(record, layer, group)
            f, p = record.experts * share(at), at.probability()
            value = sum(np.mean(f[rank]) * sum(p[rank]) for rank in placement)
            keys = (*at.keys, len(placement), record.experts)
            yield Row(keys, "load_balancing_loss_device", value, chance_of_device_loss(at, placement), at.n)


def chance_of_device_loss(at: Place, placement: list[list[int]]) -> float:
    """Mean over permutations of each token's experts: of its own choices and probabilities two different experts share
    a device as often as any two do; of another token's, as often as any expert and any, itself too."""
    pairs = [(i, j) for rank in placement for i in rank for j in rank]
    two = sum(i != j for i, j in pairs) / (at.experts * (at.experts - 1))
    met = 0.0
    for token, chosen in zip(at.tokens, at.choices(), strict=True):
        met += at.mass(token) + (len(chosen) - at.mass(token)) * two
        met += (at.n - 1) * len(chosen) * len(pairs) / at.experts**2
    return at.experts / len(placement[0]) * met / (at.chosen * at.n**2)


def skipping_simulation(record: Record) -> Iterator[Row]:
    ratios = by_place(record, lambda layer, group: weight_ratios(place(record, layer, group)))
    means = {where: (sum(found), len(found), len(found)) for where, found in ratios.items()}
    yield from ratio_rows("weight_ratio", (None,), means, 1)
    for threshold in (0.1, 0.25, 0.5, 0.75, 0.9):
        shares = {where: (sum(r < threshold for r in found), len(found), len(found)) for where, found in ratios.items()}
        yield from ratio_rows("skipped_share", (threshold,), shares, 0)


def weight_ratios(at: Place) -> list[float]:
    """Weight of the last choice / that of the first, of each token with K choices."""
    found = []
    for token, chosen in zip(at.tokens, at.choices(), strict=True):
        if len(chosen) == at.chosen:
            weights = at.record.weights[at.layer, token].astype(np.float64)
            found.append(weights[-1] / weights[0])
    return found
