"""Sums of values of single windows and single documents, so that their means count each alike however many there are.

A window is a sequence that the model was run on: a document, or one chunk of a long one. Its value needs all of its
tokens, which may come in several parts, so the last window and the last document are kept open until another begins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats.per_token import TOPK_MASS
from mixtral_probe.stats.sums import Cells, Floats, Integers, Sums, SumsByName, add_cells

_CHUNK_BITS = 32


@dataclass(frozen=True)
class ValueSums(SumsByName):
    """Sums over the windows, or over the documents, that have a token which counts in the layer.

    All are None in statistics that were read from a file of version 4, but those of documents where each had a block.
    """

    windows: Integers | None = None
    """[...] the number of windows."""
    violation: Floats | None = None
    """[...] over windows: `metrics.max_violation`."""
    violation_chance: Floats | None = None
    """[...] over windows: its mean under uniform routing of as many tokens."""
    loss: Floats | None = None
    """[...] over windows: `metrics.load_balancing_loss`; None without logits."""
    loss_chance: Floats | None = None
    """[...] over windows: its mean under independent routing, `metrics.chance_load_balancing_loss`."""
    documents: Integers | None = None
    """[...] the number of documents."""
    choice_share: Floats | None = None
    """[..., E] over documents: share of the choices."""
    gate_score: Floats | None = None
    """[..., E] over documents: mean weight of a token; None without logits and expert weights."""


def values_of_windows(sums: Sums) -> ValueSums:
    """Return the values [...] of windows with these sums, those of a window without tokens 0."""
    tokens, counts = sums.tokens, sums.counts
    chosen, experts = sums.load.shape[-2:]
    choices = counts.sum(-1)
    violation_chance = metrics.expected_max_violation(tokens, experts, metrics.ratio(choices, tokens))
    values: dict[str, Any] = {
        "windows": (tokens > 0).astype(np.int64),
        "violation": np.nan_to_num(metrics.max_violation(counts)),
        "violation_chance": np.nan_to_num(violation_chance),
    }
    if sums.probability is not None and sums.confidence is not None:
        share = metrics.ratio(counts, chosen * tokens[..., None])
        loss = metrics.load_balancing_loss(share, metrics.ratio(sums.probability, tokens[..., None]))
        mass = sums.confidence[..., TOPK_MASS]
        chance = metrics.chance_load_balancing_loss(mass, tokens, choices, num_experts=experts, chosen=chosen)
        values |= {"loss": np.nan_to_num(loss), "loss_chance": np.nan_to_num(chance)}
    return ValueSums(**values)


def values_of_documents(sums: Sums) -> ValueSums:
    """Return the values [..., E] of documents with these sums, those of a document without tokens 0."""
    gate = None if sums.gate is None else np.nan_to_num(metrics.ratio(sums.gate, sums.tokens[..., None]))
    return ValueSums(
        documents=(sums.tokens > 0).astype(np.int64),
        choice_share=np.nan_to_num(metrics.share(sums.counts)),
        gate_score=gate,
    )


def names_of_windows(document: NDArray[Any], chunk: NDArray[Any]) -> Integers:
    """[n] one number for document and chunk, which rises along a trace."""
    return document.astype(np.int64) << _CHUNK_BITS | chunk


def documents_of(names: Integers) -> Integers:
    """[n] the documents of windows with these names."""
    return names >> _CHUNK_BITS


class ValueAccumulator:
    """The sums [L, G, Bk, ...] of the values of windows and documents.

    Args:
        cells: where each document's values are added.
        empty: [L, G, Bk, ...] sums of 0; what they lack is not computed.
    """

    def __init__(self, cells: Cells, empty: Sums) -> None:
        self._windows = _Units(cells, values_of_windows, empty)
        self._documents = _Units(cells, values_of_documents, empty)

    def update(self, names: Integers, sums: Sums) -> None:
        """Add windows, in the order of the trace and possibly cut in two between calls, in place.

        Args:
            names: [W] as `names_of_windows` makes them, ascending.
            sums: [L, W, ...] of each.
        """
        self._windows.update(names, sums)
        self._documents.update(documents_of(names) << _CHUNK_BITS, sums)

    def finish(self) -> ValueSums:
        """Add the last window and document and return all sums; no update may follow."""
        return ValueSums(**self._windows.finish(), **self._documents.finish())


class _Units:
    """Values of windows, or of documents; the last one so far may have more tokens in the next part."""

    def __init__(self, cells: Cells, values: Callable[[Sums], ValueSums], empty: Sums) -> None:
        self._cells, self._values = cells, values
        one = values(empty.map(lambda array: array[:1, :1, :1])).arrays()
        lead = empty.tokens.shape
        self._total = {name: np.zeros((*lead, *array.shape[3:]), array.dtype) for name, array in one.items()}
        self._open: tuple[Integers, Sums] | None = None

    def update(self, names: Integers, sums: Sums) -> None:
        names, sums = _joined(names, sums) if self._open is None else _joined(*_concatenated(self._open, (names, sums)))
        self._add(names[:-1], sums.map(lambda array: array[:, :-1]))
        self._open = names[-1:], sums.map(lambda array: array[:, -1:])

    def finish(self) -> dict[str, NDArray[Any]]:
        if self._open is not None:
            self._add(*self._open)
        return self._total

    def _add(self, names: Integers, sums: Sums) -> None:
        document = documents_of(names)
        for name, array in self._values(sums).arrays().items():
            add_cells(self._total[name], self._cells.group[document], self._cells.block[document], array)


def _concatenated(*parts: tuple[Integers, Sums]) -> tuple[Integers, Sums]:
    sums = [part.arrays() for _, part in parts]
    together = {name: np.concatenate([arrays[name] for arrays in sums], axis=1) for name in sums[0]}
    return np.concatenate([names for names, _ in parts]), Sums(**together)


def _joined(names: Integers, sums: Sums) -> tuple[Integers, Sums]:
    """Add up neighbours with one name; sums [L, W, ...]."""
    starts = np.flatnonzero(np.diff(names, prepend=-1))
    return names[starts], sums.map(lambda array: np.add.reduceat(array, starts, axis=1))
