"""Balance losses and the router z-loss, recomputed from raw arrays.

f = n / (K T) and P is the mean softmax over all experts; K is the largest number of choices also where some tokens have
fewer, so that f is a mean over tokens and the decompositions are exact.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.referee.counting import ALL, Place, groups_of, place, places, probabilities, token_keys
from tests.referee.record import LAYERS, Record
from tests.referee.rows import NAN, Row


def share(at: Place) -> np.ndarray:
    """[E] f."""
    return at.counts() / (at.chosen * at.n)


def loss(at: Place) -> float:
    """E sum f P."""
    return at.experts * sum(share(at) * at.probability())


def chance_of_loss(at: Place) -> float:
    """Mean of the loss when each token's experts are permuted: a token's choices meet its own probabilities as they
    are, and 1/E of those of every other token."""
    met = sum(at.mass(t) + (at.n - 1) * len(c) / at.experts for t, c in zip(at.tokens, at.choices(), strict=True))
    return at.experts * met / (at.chosen * at.n**2)


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

    def chance_of_part(self, at: Place) -> float:
        """Mean of a layer's part of the loss when each token's experts are permuted, in every layer anew."""
        choices = sum(at.counts().sum() for at in self.layers)
        met = sum(at.mass(t) - len(c) / at.experts for t, c in zip(at.tokens, at.choices(), strict=True))
        return self.experts * (met + at.n * choices / self.experts) / self.rows**2

    def chance(self) -> float:
        """The same of the loss."""
        return sum(self.chance_of_part(at) for at in self.layers)


def balance_loss(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        pool = Pool(record, group)
        for at in pool.layers:
            part = record.experts * sum(pool.frequency * at.probability()) * at.n / pool.rows
            yield Row(at.keys, "load_balancing_loss", loss(at), chance_of_loss(at), at.n)
            yield Row(at.keys, "load_balancing_loss_pooled_part", part, pool.chance_of_part(at), at.n)
            yield Row(at.keys, "router_z_loss", z_loss(at), NAN, at.n)
        for metric, value, null in (
            ("load_balancing_loss_mean", pool.mean(loss), pool.mean(chance_of_loss)),
            ("load_balancing_loss_pooled", pool.loss(), pool.chance()),
            ("router_z_loss", pool.mean(z_loss), NAN),
        ):
            yield Row((None, group), metric, value, null, pool.most)


def balance_loss_breakdown(record: Record) -> Iterator[Row]:
    for at in places(record):
        f, p = share(at), at.probability()
        chance = chance_of_loss(at) / record.experts
        for i in range(record.experts):
            yield Row((*at.keys, i), "contribution", record.experts * f[i] * p[i], chance, at.n)
            excess = record.experts * (f[i] - 1 / record.experts) * (p[i] - 1 / record.experts)
            yield Row((*at.keys, i), "excess", excess, chance - sum(f) / record.experts, at.n)
    yield from gap_of_groups(record)
    yield from gap_of_layers(record)


def gap_of_groups(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        whole = place(record, layer, ALL)
        groups = [place(record, layer, group) for group in groups_of(record)[:-1]]
        parts = sum(share(at) * at.probability() * at.n for at in groups) / whole.n
        chance = sum(chance_of_loss(at) * at.n for at in groups) / whole.n - chance_of_loss(whole)
        for i, gap in enumerate(record.experts * (parts - share(whole) * whole.probability())):
            yield Row((*whole.keys, i), "pooling_gap_groups", gap, chance / record.experts, whole.n)


def gap_of_layers(record: Record) -> Iterator[Row]:
    for group in groups_of(record):
        pool = Pool(record, group)
        parts = pool.mean(lambda at: share(at) * at.probability())
        chance = (pool.mean(chance_of_loss) - pool.chance() / record.chosen) / record.experts
        for i, gap in enumerate(
            record.experts * (parts - pool.frequency / record.chosen * pool.mean(Place.probability))
        ):
            yield Row((None, group, i), "pooling_gap_layers", gap, chance, pool.most)


def balance_loss_tokens(record: Record) -> Iterator[Row]:
    for layer in range(len(LAYERS)):
        at = place(record, layer, ALL)
        f = share(at)
        for token, chosen in zip(at.tokens, at.choices(), strict=True):
            value = record.experts * sum(f * probabilities(record, layer, token))
            others = (at.counts().sum() - len(chosen)) / record.experts
            chance = record.experts * (at.mass(token) + others) / (record.chosen * at.n)
            yield Row((*token_keys(record, token), LAYERS[layer]), "token_balance_loss", value, chance, at.n)
