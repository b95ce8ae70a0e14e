"""What serving would do with the routing, simulated token by token from raw arrays."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from math import ceil
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from tests.referee.counting import ALL, Place, choices, counted, groups_of, place, windows_of
from tests.referee.losses import share
from tests.referee.record import LAYERS, Record, hash_of
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


def ratio_rows(
    metric: str,
    keys: tuple,
    parts: dict[tuple, Part],
    null: float | None = UNCHECKED,
    *,
    same_load: dict[tuple, Part] | None = UNCHECKED,
) -> Iterator[Row]:
    """Rows of each layer and group, and of all layers: sum of the tops / sum of the bottoms, n of the largest layer.

    `same_load` are the parts of the second null.
    """
    others = dict.fromkeys(parts) if same_load is UNCHECKED else same_load
    for (layer, group), part in parts.items():
        second = UNCHECKED if others[layer, group] is None else quotient([others[layer, group]])
        yield row_of((layer, group, *keys), metric, quotient([part]), null, part[2], second)
    for group in dict.fromkeys(group for _, group in parts):
        own, by_chance = ([found[where] for where in parts if where[1] == group] for found in (parts, others))
        second = UNCHECKED if None in by_chance else quotient(by_chance)
        yield row_of((None, group, *keys), metric, quotient(own), null, max(n for *_, n in own), second)


def quotient(parts: list[Part]) -> float:
    """Sum of the tops / sum of the bottoms."""
    top, bottom = (sum(part[i] for part in parts) for i in (0, 1))
    return top / bottom if bottom else np.nan


def by_place(record: Record, part: Callable[[int, str], Any]) -> dict[tuple, Any]:
    """The part of every layer and group."""
    return {(LAYERS[layer], group): part(layer, group) for layer in range(len(LAYERS)) for group in groups_of(record)}


def cache_simulation(record: Record) -> Iterator[Row]:
    policies = product(("lru", "lfu", "belady", "static"), range(record.chosen, record.experts))
    for (policy, capacity), (metric, together) in product(
        policies, (("hit_rate", True), ("hit_rate_sequential", False))
    ):
        part = partial(_hits, record, policy, capacity, together)
        parts = by_place(record, part)
        # The loads settle what a cache that never changes hits.
        same_load = parts if policy == "static" else UNCHECKED
        yield from ratio_rows(metric, (policy, capacity), parts, same_load=same_load)


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
        exchanged = by_place(record, lambda layer, group, factor=factor: exchanged_drops(record, layer, group, factor))
        for bin_ in (None, *range(5)):
            parts, same_load = ({where: inside(bin_, d) for where, d in all_.items()} for all_ in (drops, exchanged))
            edges = (np.nan, np.nan) if bin_ is None else (0.0 if bin_ == 0 else 2.0 ** (bin_ - 1), 2.0**bin_)
            keys = (factor, bin_, *edges)
            rows = ratio_rows("dropped_share", keys, parts, same_load=same_load)
            yield from (row for row in rows if row.n or bin_ is None)


def inside(bin_: int | None, drops: list[tuple[int, float, float]]) -> Part:
    """Choices dropped and choices of the places of a bin, and how many there are."""
    own = [d for d in drops if bin_ in (None, d[0].bit_length())]
    return sum(d[1] for d in own), sum(d[2] for d in own), len(own)


def exchanged_drops(record: Record, layer: int, group: str, factor: float) -> list[tuple[int, float, float]]:
    """Place in its window, choices dropped and choices of every token on average if all tokens are shuffled: whichever
    stands there, those before it are drawn from the others without replacement."""
    windows = layer_windows(record, layer, group)
    tokens = sum(map(len, windows))
    chose = [sum(expert in chosen for window in windows for chosen in window) for expert in range(record.experts)]
    found = []
    for window in windows:
        places, capacity = np.arange(len(window)), capacity_of(record, len(window), factor)
        full = sum(n / tokens * hypergeom.sf(capacity - 1, tokens - 1, n - 1, places) for n in chose if n)
        found += [(int(place), full[place], sum(chose) / tokens) for place in places]
    return found


def capacity_of(record: Record, tokens: int, factor: float) -> int:
    return ceil(round(factor * record.chosen * tokens / record.experts, 9))


def dropped(record: Record, layer: int, group: str, factor: float) -> list[tuple[int, int, int]]:
    """Place in its window, choices dropped and choices of every token, where each window is a batch."""
    found = []
    for window in layer_windows(record, layer, group):
        capacity = capacity_of(record, len(window), factor)
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
            yield from crossed_rows(record, ranks, replicas)


def imbalance_rows(record: Record, metric: str, keys: tuple, placement: dict[int, list]) -> Iterator[Row]:
    """Busiest rank / mean rank; over all layers the sum of the busiest / the sum of the means."""

    def part(layer: int, group: str) -> Part:
        at = place(record, layer, group)
        loads = rank_loads(at.counts(), placement[layer])
        return max(loads), sum(loads) / len(loads), at.n

    parts = by_place(record, part)
    yield from ratio_rows(metric, keys, parts, same_load=parts)


def crossed_rows(record: Record, ranks: int, replicas: int) -> Iterator[Row]:
    """The same of halves of the documents, each placed by the load of the other: loads of the busiest ranks are added,
    of the second, and so on. Documents are in turn of the one half and of the other, in the order of their hashes."""
    documents = {int(record.document[t]) for t in range(record.tokens) if counted(record, t, ALL)}
    half = {document: i % 2 for i, document in enumerate(sorted(documents, key=hash_of))}

    def counts(layer: int, group: str) -> list[np.ndarray]:
        at = place(record, layer, group)
        tokens = ([t for t in at.tokens if half[int(record.document[t])] == side] for side in (0, 1))
        return [replace(at, tokens=own).counts() for own in tokens]

    def part(layer: int, group: str) -> Part:
        fits = [eplb(of_half, replicas, ranks) for of_half in counts(layer, ALL)]
        one, other = counts(layer, group)
        if not one.any() or not other.any():
            return np.nan, np.nan, 0
        loads = np.add(sorted(rank_loads(one, fits[1])), sorted(rank_loads(other, fits[0])))
        return max(loads), np.mean(loads), place(record, layer, group).n

    yield from ratio_rows("rank_imbalance_eplb_crossval", (ranks, replicas), by_place(record, part))


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
            yield Row(keys, "load_balancing_loss_device", value, chance_of_device_loss(at, placement), at.n, value)


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
