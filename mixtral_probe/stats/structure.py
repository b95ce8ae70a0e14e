"""Counts of experts chosen together or in succession: pairs, repeats, transitions between layers, positions.

Integers computed from the expert ids alone, with any leading axes: [L, G, Bk] in statistics. A lag or a transition
never leaves a window, and a lag across a token that is not counted (a special one) is not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.metrics import set_index
from mixtral_probe.stats.chunks import MAX_LAG, Chunk, Mask
from mixtral_probe.stats.shuffled_repeats import RepeatCounts, shuffled_repeats
from mixtral_probe.stats.sums import Cells, SumsByName
from mixtral_probe.stats.unit_values import UnitValues, names_of_documents
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
POSITION_BUCKETS = 16
MAX_SETS, MAX_SMALLER_SETS = 256, 1024
_PIECE_ELEMENTS = 2**20


@dataclass(frozen=True)
class Structure(SumsByName):
    """Counts over tokens or pairs of tokens."""

    pairs: Integers
    """[..., E, E] tokens that chose both experts, at any ranks; symmetric, 0 on the diagonal."""
    repeats: Integers
    """[..., lag - 1, 2, K + 1] pairs of tokens `lag` = 1 ... 8 apart: same first choice or not, experts in common."""
    positions: Integers
    """[..., P, E] choices by position in the window: 0, 1, 2-3, 4-7, ...; the last bucket has all further ones."""
    transitions: Integers
    """[pairs of layers first, ..., E, E] first choice in one layer, first choice of the same token in the other."""
    transitions_all: Integers
    """[pairs of layers first, ..., E, E] each of a token's K choices with each of its K in the other: K^2 a token."""
    transition_choices: Integers
    """[pairs of layers first, ..., K, K] tokens by how many experts they chose in one layer, and in the other: 1 to K.

    In statistics of files without it as if all tokens chose K.
    """
    sets: Integers
    """[..., S] tokens by all experts they chose, as `metrics.set_index` numbers the sets; S is 0 unless `num_sets`."""


def num_sets(num_experts: int, chosen: int) -> int:
    """Return S, how many sets of 1 to K experts are counted.

    All, but none for K <= 2, where pairs are enough, and if those of K are above 256 or all above 1,024.
    """
    whole = comb(num_experts, chosen)
    sets = sum(comb(num_experts, size) for size in range(1, chosen + 1))
    return sets if chosen > 2 and whole <= MAX_SETS and sets <= MAX_SMALLER_SETS else 0


def sets_of_earlier(sets: Integers, num_experts: int, chosen: int) -> Integers:
    """[..., S] the counts of a file that has only sets of K experts, which come first."""
    number = num_sets(num_experts, chosen)
    kept = sets[..., :number]
    return np.pad(kept, [(0, 0)] * (sets.ndim - 1) + [(0, number - kept.shape[-1])])


def position_buckets(positions: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """[...] the bucket of each position: 0, 1, 2-3, 4-7, ...; the last has all further ones."""
    return np.minimum(np.frexp(positions.astype(np.float64))[1], POSITION_BUCKETS - 1).astype(np.intp)


class _Piece(NamedTuple):
    """A chunk, the tokens after it within a lag, and the cells of its counts."""

    ids: NDArray[np.int16]
    """[K, L, n + up to MAX_LAG]"""
    apart: Mask
    """[lag, L, n] whether a token is compared with the one that far after it."""
    counted: Mask
    """[n]"""
    bucket: NDArray[np.intp]
    """[n]"""
    cells: NDArray[np.intp]
    """[c] the cells group * Bk + block that occur, or the documents."""
    cell: NDArray[np.intp]
    """[n] which of them each token belongs to."""
    steps: NDArray[np.intp]
    """[2, pairs of layers] from which layer to which transitions are counted."""

    def cut(self, start: int, stop: int) -> "_Piece":
        """Return the tokens from start to stop, and those after them within a lag."""
        own, ids = slice(start, stop), self.ids[:, :, start : stop + MAX_LAG]
        counted, bucket, cell = self.counted[own], self.bucket[own], self.cell[own]
        return self._replace(ids=ids, apart=self.apart[..., own], counted=counted, bucket=bucket, cell=cell)


class StructureAccumulator:
    """The counts of a trace, and the repeats expected in each document.

    Args:
        trace: the trace.
        cells: where each document's counts are added.
        counted: [T] the tokens that count.
        layer_pairs: the layers, as the model numbers them, whose transitions are counted.
    """

    def __init__(self, trace: Trace, cells: Cells, counted: Mask, layer_pairs: Sequence[tuple[int, int]]) -> None:
        self._cells, self._counted = cells, counted
        rows = [[trace.layers.index(layer) for layer in pair] for pair in layer_pairs]
        self._steps = steps = np.array(rows, np.intp).reshape(-1, 2).T
        layers, chosen, experts = trace.num_layers, trace.num_experts_per_tok, trace.num_experts
        self._tokens = max(1, _PIECE_ELEMENTS // (layers * chosen))
        self._tails: dict[str, tuple[int, tuple[int, ...]]] = {
            "pairs": (layers, (experts, experts)),
            "repeats": (layers, (MAX_LAG, 2, chosen + 1)),
            "positions": (layers, (POSITION_BUCKETS, experts)),
            "transitions": (steps.shape[1], (experts, experts)),
            "transitions_all": (steps.shape[1], (experts, experts)),
            "transition_choices": (steps.shape[1], (chosen, chosen)),
            "sets": (layers, (num_sets(experts, chosen),)),
        }
        one = _repeat_counts_of_none(chosen, experts)
        self._documents = max(1, _PIECE_ELEMENTS // (layers * sum(array[0, 0].size for array in one.arrays().values())))
        self._shuffled = UnitValues(cells, shuffled_repeats, one, layers)
        flat = cells.size[0] * cells.size[1]
        self._totals = {name: np.zeros((lead, flat, *tail), np.int64) for name, (lead, tail) in self._tails.items()}

    @property
    def structure(self) -> Structure:
        """[L, G, Bk, ...] the counts so far."""
        size, tails = self._cells.size, self._tails
        return Structure(**{n: total.reshape(len(total), *size, *tails[n][1]) for n, total in self._totals.items()})

    def update(self, chunk: Chunk) -> None:
        """Add a chunk, in place."""
        for part in chunk.split(self._tokens):
            piece = self._piece(part)
            for name, count in _COUNTS.items():
                lead, tail = self._tails[name]
                counts = count(piece, chunk.trace.num_experts)
                self._totals[name][:, piece.cells] += counts.reshape(lead, len(piece.cells), *tail)
            self._add_documents(piece, part.document, chunk.trace.num_experts)

    def finish(self) -> dict[str, NDArray[Any]]:
        """Return the sum [L, G, Bk, metric, lag] of `shuffled_repeats` by its name; no update may follow."""
        return self._shuffled.finish()

    def _add_documents(self, piece: _Piece, document: NDArray[np.intp], experts: int) -> None:
        """Add the counts of the documents of a piece, a few at a time; document: [n]."""
        starts = np.flatnonzero(np.diff(document, prepend=-1))[:: self._documents]
        for start, stop in pairwise([*starts, len(document)]):
            documents, index = np.unique(document[start:stop], return_inverse=True)
            part = piece.cut(start, stop)._replace(cells=documents, cell=index)
            self._shuffled.update(names_of_documents(documents), _repeat_counts(part, experts))

    def _piece(self, part: Chunk) -> _Piece:
        beyond = part.extended(MAX_LAG)
        ids = np.ascontiguousarray(np.moveaxis(beyond.ids, -1, 0))
        # Numbers of runs are compared only within a piece, so they may start anywhere.
        apart = _apart(beyond.runs(self._counted), ids[0] >= 0, part.span.stop - part.span.start)
        bucket = position_buckets(part.column("position"))
        cells, index = np.unique(self._cells.of_document[part.document], return_inverse=True)
        return _Piece(ids, apart, self._counted[part.span], bucket, cells, index, self._steps)


def _tally(key: NDArray[Any], valid: Mask, cell: NDArray[np.intp], cells: int, kinds: int) -> Integers:
    """[L, cells, kinds] how often each key [L, n] occurs in each cell, where valid [L, n]."""
    layers = len(key)
    flat = (np.arange(layers)[:, None] * cells + cell) * kinds + key
    return np.bincount(flat[valid], minlength=layers * cells * kinds).reshape(layers, cells, kinds).astype(np.int64)


def _pairs(piece: _Piece, experts: int) -> Integers:
    n, cells = len(piece.cell), len(piece.cells)
    ids = piece.ids[:, :, :n].astype(np.intp)
    total = np.zeros((ids.shape[1], cells, experts, experts), np.int64)
    for second in range(1, len(ids)):
        for first in range(second):
            valid = piece.counted & (ids[second] >= 0)
            counts = _tally(ids[first] * experts + ids[second], valid, piece.cell, cells, experts**2)
            total += counts.reshape(total.shape)
    return total + total.swapaxes(-1, -2)


def _transitions(piece: _Piece, experts: int) -> Integers:
    return _steps(piece, experts, 1)


def _transitions_all(piece: _Piece, experts: int) -> Integers:
    return _steps(piece, experts, len(piece.ids))


def _steps(piece: _Piece, experts: int, ranks: int) -> Integers:
    """[pairs of layers, cells, E * E] choices of the first ranks in one layer by those in the other."""
    source, target = (piece.ids[:ranks, layers, : len(piece.cell)].astype(np.intp) for layers in piece.steps)
    total = np.zeros((piece.steps.shape[1], len(piece.cells), experts**2), np.int64)
    for before, after in product(source, target):
        valid = piece.counted & (before >= 0) & (after >= 0)
        total += _tally(before * experts + after, valid, piece.cell, len(piece.cells), experts**2)
    return total


def _transition_choices(piece: _Piece, experts: int) -> Integers:
    number = (piece.ids[:, :, : len(piece.cell)] >= 0).sum(0)
    chosen, (source, target) = len(piece.ids), (number[layers] for layers in piece.steps)
    valid = piece.counted & (source > 0) & (target > 0)
    return _tally((source - 1) * chosen + target - 1, valid, piece.cell, len(piece.cells), chosen**2)


def transition_choices_of_earlier(transitions: Integers, chosen: int) -> Integers:
    """[pairs of layers first, ..., K, K] the counts of a file without them, from those of first choices."""
    tokens = transitions.sum((-1, -2))
    counts = np.zeros((*tokens.shape, chosen, chosen), np.int64)
    counts[..., -1, -1] = tokens
    return counts


def _sets(piece: _Piece, experts: int) -> Integers:
    layers, sets = piece.ids.shape[1], num_sets(experts, len(piece.ids))
    if not sets:
        return np.zeros((layers, len(piece.cells), 0), np.int64)
    ids = np.moveaxis(piece.ids[:, :, : len(piece.cell)], 0, -1)
    valid = piece.counted & (ids[..., 0] >= 0)
    return _tally(set_index(ids, experts), valid, piece.cell, len(piece.cells), sets)


def _positions(piece: _Piece, experts: int) -> Integers:
    n, kinds = len(piece.cell), POSITION_BUCKETS * experts
    ranks = (
        _tally(piece.bucket * experts + ids, piece.counted & (ids >= 0), piece.cell, len(piece.cells), kinds)
        for ids in piece.ids[:, :, :n].astype(np.intp)
    )
    return sum(ranks, np.zeros((piece.ids.shape[1], len(piece.cells), kinds), np.int64))


def _repeats(piece: _Piece, experts: int) -> Integers:
    return np.stack([_repeats_at(piece, lag) for lag in range(1, MAX_LAG + 1)], axis=2)


def _repeats_at(piece: _Piece, lag: int) -> Integers:
    """[L, cells, 2 (K + 1)] for one lag; a pair counts in the cell of its first token."""
    chosen, _, rows = piece.ids.shape
    n = max(min(len(piece.cell), rows - lag), 0)
    first, second = piece.ids[:, :, :n], piece.ids[:, :, lag : lag + n]
    same = first[0] == second[0]
    common = np.zeros(same.shape, np.intp)
    for one in first:
        for other in second:
            common += (one == other) & (one >= 0)
    valid = piece.apart[lag - 1][:, :n]
    return _tally(same * (chosen + 1) + common, valid, piece.cell[:n], len(piece.cells), 2 * (chosen + 1))


def _apart(run: Integers, active: Mask, tokens: int) -> Mask:
    """[lag, L, n] whether a token is compared with the one that far after it.

    Args:
        run: [n + up to MAX_LAG] as `Chunk.runs` numbers them.
        active: [L, n + up to MAX_LAG] whether a token counts in the layer.
        tokens: n.
    """
    masks = np.zeros((MAX_LAG, len(active), tokens), bool)
    for lag, mask in enumerate(masks, start=1):
        n = max(min(tokens, len(run) - lag), 0)
        mask[:, :n] = (run[:n] == run[lag : lag + n]) & active[:, :n] & active[:, lag : lag + n]
    return masks


def _repeat_counts_of_none(chosen: int, experts: int) -> RepeatCounts:
    """[1, 1, ...] the counts of a document without tokens."""
    both = experts if chosen == 2 else 0
    shapes = ((), (chosen, experts), (MAX_LAG,), (both, both), (num_sets(experts, chosen),))
    return RepeatCounts(*(np.zeros((1, 1, *shape), np.int64) for shape in shapes))


def _repeat_counts(piece: _Piece, experts: int) -> RepeatCounts:
    """[L, documents, ...] the counts of a piece whose cells are documents."""
    chosen, cells = len(piece.ids), len(piece.cells)
    ids = piece.ids[:, :, : len(piece.cell)].astype(np.intp)
    load = [_tally(of_rank, piece.counted & (of_rank >= 0), piece.cell, cells, experts) for of_rank in ids]
    starts = np.flatnonzero(np.diff(piece.cell, prepend=-1))
    apart = np.moveaxis(np.add.reduceat(piece.apart, starts, axis=2, dtype=np.int64), 0, -1)
    pairs = _pairs(piece, experts) if chosen == 2 else np.zeros((len(load[0]), cells, 0, 0), np.int64)
    loads = np.stack(load, axis=2)
    return RepeatCounts(loads[:, :, 0].sum(-1), loads, apart, pairs, _sets(piece, experts))


_COUNTS: dict[str, Callable[[_Piece, int], Integers]] = {
    "pairs": _pairs,
    "repeats": _repeats,
    "positions": _positions,
    "transitions": _transitions,
    "transitions_all": _transitions_all,
    "transition_choices": _transition_choices,
    "sets": _sets,
}
