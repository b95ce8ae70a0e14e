"""Balance losses and the router z-loss, recomputed from raw arrays.

f = n / (K T) and P is the mean softmax over all experts; K is the largest number of choices also where some tokens have
fewer, so that f is a mean over tokens and the decompositions are exact.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.referee.counting import ALL, Place, groups_of, place, places, probabilities, token_keys
from tests.referee.record import LAYERS, Record
from tests.referee.rows import Row


def share(at: Place) -> np.ndarray:
    """[E] f."""
    return at.counts() / (at.chosen * at.n)


def loss(at: Place) -> float:
    """E sum f P."""
    return at.experts * sum(share(at) * at.probability())


def z_loss(at: Place) -> float:
    """Mean over tokens of logsumexp(logits)^2 (Zoph et al. 2022)."""
    z = at.record.logits[at.layer, at.tokens].astype(np.float64)
    return np.mean([np.log(sum(np.exp(row))) ** 2 for row in z])


class Pool:
    """The tokens of a group in all layers, concatenated as transformers does."""

    def __init__(self, record: Record, group: str) -> None:
        self.experts, self.chosen = record.experts, record.chosen
        self.layers = [place(record, layer, group) for layer in range(len(LAYERS))]
        self.rows = sum(at.n for at in self.layers)
        self.most = max(at.n for at in self.layers)
        """n: a token counts once, although every layer routes it."""
        self.frequency = sum(at.counts() for at in self.layers) / self.rows

    def mean(self, value: Callable[[Place], Any]) -> Any:
        """Mean over layers, by their tokens."""
        return sum(value(at) * at.n for at in self.layers) / self.rows

    def loss(self) -> float:
        """E sum F P, which is K at balance."""
        return self.experts * sum(self.frequency * self.mean(Place.probability))


def balance_loss(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        pool = Pool(record, group)
        for at in pool.layers:
            part = record.experts * sum(pool.frequency * at.probability()) * at.n / pool.rows
            yield Row(at.keys, "load_balancing_loss", loss(at), 1, at.n)
            yield Row(at.keys, "load_balancing_loss_pooled_part", part, record.chosen / len(LAYERS), at.n)
            yield Row(at.keys, "router_z_loss", z_loss(at), np.log(record.experts) ** 2, at.n)
        for metric, value, null in (
            ("load_balancing_loss_mean", pool.mean(loss), 1),
            ("load_balancing_loss_pooled", pool.loss(), record.chosen),
            ("router_z_loss", pool.mean(z_loss), np.log(record.experts) ** 2),
        ):
            yield Row((None, group), metric, value, null, pool.most)


def balance_loss_breakdown(record: Record) -> Iterator[Row]:
    for at in places(record):
        f, p = share(at), at.probability()
        for i in range(record.experts):
            yield Row((*at.keys, i), "contribution", record.experts * f[i] * p[i], 1 / record.experts, at.n)
            excess = record.experts * (f[i] - 1 / record.experts) * (p[i] - 1 / record.experts)
            yield Row((*at.keys, i), "excess", excess, 0, at.n)
    yield from gap_of_groups(record)
    yield from gap_of_layers(record)


def gap_of_groups(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        whole = place(record, layer, ALL)
        groups = [place(record, layer, group) for group in groups_of(record)[:-1]]
        parts = sum(share(at) * at.probability() * at.n for at in groups) / whole.n
        for i, gap in enumerate(record.experts * (parts - share(whole) * whole.probability())):
            yield Row((*whole.keys, i), "pooling_gap_groups", gap, 0, whole.n)


def gap_of_layers(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        pool = Pool(record, group)
        parts = pool.mean(lambda at: share(at) * at.probability())
        for i, gap in enumerate(
            record.experts * (parts - pool.frequency / record.chosen * pool.mean(Place.probability))
        ):
            yield Row((None, group, i), "pooling_gap_layers", gap, 0, pool.most)


def balance_loss_tokens(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        at = place(record, layer, ALL)
        f = share(at)
        for token in at.tokens:
            value = record.experts * sum(f * probabilities(record, layer, token))
            yield Row((*token_keys(record, token), LAYERS[layer]), "token_balance_loss", value, 1, at.n)
