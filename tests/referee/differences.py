"""Differences between groups, layers and slices: the metrics of both, one less the other."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from tests.referee.counting import ALL, Place, groups_of, place, token_keys
from tests.referee.load import confidence, cv_squared, entropy
from tests.referee.losses import loss, z_loss
from tests.referee.record import LAYERS, Record
from tests.referee.rows import Row

METRICS: dict[str, Callable[[Place], float]] = {
    "cv_squared": lambda at: cv_squared(at.counts()),
    "normalized_entropy": lambda at: entropy(at.share()) / np.log(at.experts),
    "effective_experts": lambda at: np.exp(entropy(at.share())),
    "load_balancing_loss": loss,
    "router_z_loss": z_loss,
}


def values_of(at: Place) -> dict[str, float]:
    """Every metric of one layer."""
    means = {name: np.mean(values) for name, values in confidence(at).items()}
    return {name: metric(at) for name, metric in METRICS.items()} | means


def differences(keys: tuple, one: Place, other: Place, n: int) -> Iterator[Row]:
    """Rows of a layer, the second place less the first."""
    first, second = values_of(one), values_of(other)
    for name, value in first.items():
        yield Row(keys, f"{name}_difference", second[name] - value, 0, n)


def differences_of_experts(keys: tuple, one: Place, other: Place) -> Iterator[Row]:
    for expert, change in enumerate(other.frequency() - one.frequency()):
        yield Row((*keys, expert), "selection_frequency_difference", change, 0, one.n + other.n)


def group_differences(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        for name, other in combinations(groups_of(record)[:-1], 2):
            one, two = place(record, layer, name), place(record, layer, other)
            keys = LAYERS[layer], name, other
            yield from differences((*keys, None), one, two, one.n + two.n)
            yield from differences_of_experts(keys, one, two)


def layer_differences(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        for first, second in combinations(range(len(LAYERS)), 2):
            one, two = place(record, first, group), place(record, second, group)
            yield from differences((LAYERS[first], LAYERS[second], group), one, two, max(one.n, two.n))


SLICES = ("position < 5", "position >= 5")
"""The expressions of the two slices."""


def slice_differences(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        whole = place(record, layer, ALL)
        early = [t for t in whole.tokens if token_keys(record, t)[2] < 5]
        late = [t for t in whole.tokens if t not in early]
        one, two = (Place(record, layer, ALL, tokens) for tokens in (early, late))
        yield from differences((LAYERS[layer], ALL, None), one, two, whole.n)
        yield from differences_of_experts((LAYERS[layer], ALL), one, two)
