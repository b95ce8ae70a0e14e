"""Two records of the same texts, compared token by token."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np

from tests.referee.counting import choices, counted, groups_of, place
from tests.referee.record import LAYERS, Record
from tests.referee.rows import Row

Pair = tuple[list[int], list[int]]
"""The experts of a token in both records."""


@cache
def changed(record: Record) -> Record:
    """The record of another model of the same texts: about half of the tokens choose other experts."""
    rng = np.random.default_rng(6)
    noise = rng.normal(size=record.logits.shape) * (rng.random(record.logits.shape[:2]) < 0.5)[..., None]
    ids = np.argsort(-(record.logits + noise), axis=-1)[..., : record.chosen].astype(np.int16)
    fewer = (rng.random(ids.shape[:2]) < 0.1)[..., None] & (np.arange(record.chosen) == record.chosen - 1)
    kept = (record.ids >= 0) & ~(fewer & (record.ids < 0).any())
    return replace(record, ids=np.where(kept, ids, -1), weights=np.where(kept, record.weights, 0))


def pairs_of(a: Record, b: Record, layer: int, group: str) -> list[Pair]:
    """The tokens of a group that went to experts in both records."""
    tokens = [t for t in place(a, layer, group).tokens if choices(b, layer, t)]
    return [(choices(a, layer, t), choices(b, layer, t)) for t in tokens]


def _by_layer(a: Record, b: Record, group: str) -> list[tuple[int | None, list[Pair], int]]:
    """The pairs of each layer and of all layers, with their n."""
    found = [pairs_of(a, b, layer, group) for layer in range(len(LAYERS))]
    each = [(number, pairs, len(pairs)) for number, pairs in zip(LAYERS, found, strict=True)]
    return [*each, (None, [pair for pairs in found for pair in pairs], max(len(pairs) for pairs in found))]


METRICS: dict[str, Callable[[set[int], set[int]], float]] = {
    "set_overlap": lambda one, two: len(one & two) / max(len(one), len(two)),
    "same_set": lambda one, two: one == two,
    "set_jaccard": lambda one, two: len(one & two) / len(one | two),
    "set_hamming": lambda one, two: len(one ^ two),
}


@cache
def chance(metric: str, experts: int, one: int, other: int) -> float:
    """Mean of a metric over all sets of a size, beside one set of the other size."""
    given = set(range(one))
    return float(np.mean([METRICS[metric](given, set(sets)) for sets in combinations(range(experts), other)]))


def agreement(record: Record) -> Iterator[Row]:
    other = changed(record)
    for group in groups_of(record):
        for layer, pairs, n in _by_layer(record, other, group):
            for metric, alike in METRICS.items():
                value = np.mean([alike(set(one), set(two)) for one, two in pairs])
                null = np.mean([chance(metric, record.experts, len(one), len(two)) for one, two in pairs])
                yield Row((layer, group, None), metric, value, null, n)
            first = np.mean([one[0] == two[0] for one, two in pairs])
            yield Row((layer, group, None), "first_agreement", first, 1 / record.experts, n)
        yield any_layer_differs(record, other, group)
        for layer, pairs, _ in _by_layer(record, other, group)[:-1]:
            for expert in range(record.experts):
                shares = [share_of([pair[side] for pair in pairs], expert) for side in (0, 1)]
                yield Row((layer, group, expert), "share_change", shares[1] - shares[0], 0, len(pairs))


def share_of(sets: list[list[int]], expert: int) -> float:
    return sum(expert in chosen for chosen in sets) / sum(len(chosen) for chosen in sets)


def any_layer_differs(a: Record, b: Record, group: str) -> Row:
    """Share of tokens whose sets differ in some layer; the null is uniform routing, independent in each layer."""
    differ, by_chance = [], []
    for t in range(a.tokens):
        sets = [(set(choices(a, layer, t)), set(choices(b, layer, t))) for layer in range(len(LAYERS))]
        routed = [(one, two) for one, two in sets if one and two]
        if counted(a, t, group) and routed:
            differ.append(any(one != two for one, two in routed))
            same = [chance("same_set", a.experts, len(one), len(two)) for one, two in routed]
            by_chance.append(1 - np.prod(same))
    return Row((None, group, None), "any_layer_differs", np.mean(differ), np.mean(by_chance), len(differ))


STEPS = (10, 200)


def saturation(record: Record) -> Iterator[Row]:
    """OLMoE, eq. 5: the share of the last step's experts that a step already chose."""
    for step, earlier in zip(STEPS, (changed(record), record), strict=True):
        for group in groups_of(record):
            for layer, pairs, n in _by_layer(earlier, record, group):
                shared = np.mean([METRICS["set_overlap"](set(one), set(two)) for one, two in pairs])
                null = np.mean([chance("set_overlap", record.experts, len(one), len(two)) for one, two in pairs])
                first = np.mean([one[0] == two[0] for one, two in pairs])
                yield Row((step, layer, group), "saturation", shared, null, n)
                yield Row((step, layer, group), "saturation_first", first, 1 / record.experts, n)


PAIR = 40, 55
"""Two tokens of one record."""


def route_overlap(record: Record) -> Iterator[Row]:
    found = []
    for layer, number in enumerate(LAYERS):
        one, two = (set(choices(record, layer, token)) for token in PAIR)
        if one and two:
            even = len(one) * len(two) / record.experts
            numbers = (len(one & two), even, len(one & two) / len(one | two))
            found.append((*numbers, chance("set_jaccard", record.experts, len(one), len(two))))
            yield Row((number,), "shared_experts", found[-1][0], found[-1][1], 2)
            yield Row((number,), "set_jaccard", found[-1][2], found[-1][3], 2)
    shared, even, jaccard, by_chance = zip(*found, strict=True)
    yield Row((None,), "shared_experts", sum(shared), sum(even), 2)
    yield Row((None,), "set_jaccard", np.mean(jaccard), np.mean(by_chance), 2)
