"""Which tokens count where, and what each of them was routed to: the loops that every subject needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from tests.referee.record import LAYERS, Record

ALL = "all"


def groups_of(record: Record) -> list[str]:
    """The values of the documents' label, and "all"."""
    return [*sorted(set(record.group)), ALL]


def counted(record: Record, token: int, group: str) -> bool:
    """Whether a token is no special one and its document is of the group."""
    return not record.special[token] and group in (ALL, record.group[record.document[token]])


def choices(record: Record, layer: int, token: int) -> list[int]:
    """The experts of a token, strongest first."""
    return [int(expert) for expert in record.ids[layer, token] if expert >= 0]


def probabilities(record: Record, layer: int, token: int) -> np.ndarray:
    """[E] softmax over all experts."""
    z = record.logits[layer, token].astype(np.float64)
    return np.exp(z) / np.exp(z).sum()


@dataclass(frozen=True, eq=False)
class Place:
    """The tokens of a group that went to experts in a layer."""

    record: Record
    layer: int
    """From 0 in the arrays."""
    group: str
    tokens: list[int]

    @property
    def keys(self) -> tuple:
        """Layer, as the model numbers it, and group."""
        return LAYERS[self.layer], self.group

    @property
    def experts(self) -> int:
        """E."""
        return self.record.experts

    @property
    def chosen(self) -> int:
        """K, the largest number of choices."""
        return self.record.chosen

    @property
    def n(self) -> int:
        """T, the tokens that count."""
        return len(self.tokens)

    def choices(self) -> list[list[int]]:
        """[T] the experts of each token."""
        return [choices(self.record, self.layer, token) for token in self.tokens]

    def counts(self) -> np.ndarray:
        """[E] n_i, how often each expert was chosen."""
        n = np.zeros(self.experts)
        for chosen in self.choices():
            for expert in chosen:
                n[expert] += 1
        return n

    def share(self) -> np.ndarray:
        """[E] f_i = n_i / sum n."""
        return self.counts() / self.counts().sum()

    def frequency(self) -> np.ndarray:
        """[E] F_i = n_i / T."""
        return self.counts() / self.n

    def gates(self) -> np.ndarray:
        """[E] the sum over tokens of the weight given to each expert."""
        g = np.zeros(self.experts)
        for token, chosen in zip(self.tokens, self.choices(), strict=True):
            for rank, expert in enumerate(chosen):
                g[expert] += float(self.record.weights[self.layer, token, rank])
        return g

    def probability(self) -> np.ndarray:
        """[E] P_i, the mean over tokens of the softmax over all experts."""
        return np.mean([probabilities(self.record, self.layer, token) for token in self.tokens], axis=0)

    def documents(self) -> "list[Place]":
        """The same of each document that has such tokens."""
        of = self.record.document
        by = {int(document): [t for t in self.tokens if of[t] == document] for document in of[self.tokens]}
        return [Place(self.record, self.layer, self.group, tokens) for tokens in by.values()]

    def windows(self) -> "list[Place]":
        """The same of each window that has such tokens."""
        of = [(int(self.record.document[t]), int(self.record.chunk[t])) for t in self.tokens]
        by = {window: [t for t, its in zip(self.tokens, of, strict=True) if its == window] for window in of}
        return [Place(self.record, self.layer, self.group, tokens) for tokens in by.values()]

    def mass(self, token: int) -> float:
        """The probability of the experts that a token chose."""
        return sum(probabilities(self.record, self.layer, token)[choices(self.record, self.layer, token)])


def place(record: Record, layer: int, group: str) -> Place:
    """The tokens of a group that count in a layer (from 0 in the arrays)."""
    tokens = [t for t in range(record.tokens) if counted(record, t, group) and choices(record, layer, t)]
    return Place(record, layer, group, tokens)


def places(record: Record) -> Iterator[Place]:
    """Those of every layer and group."""
    for layer in range(len(LAYERS)):
        for group in groups_of(record):
            yield place(record, layer, group)


def same_window(record: Record, a: int, b: int) -> bool:
    return record.document[a] == record.document[b] and record.chunk[a] == record.chunk[b]


def token_keys(record: Record, token: int) -> tuple:
    """Document, chunk, position in the window and text."""
    window = [t for t in range(record.tokens) if same_window(record, t, token)]
    where = int(record.document[token]), int(record.chunk[token]), window.index(token)
    return (*where, f" t{record.token_id[token]}")


@cache
def windows_of(record: Record) -> list[list[int]]:
    """The tokens of each window."""
    windows: dict[tuple[int, int], list[int]] = {}
    for token in range(record.tokens):
        windows.setdefault((int(record.document[token]), int(record.chunk[token])), []).append(token)
    return list(windows.values())
