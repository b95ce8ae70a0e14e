"""What stands beside and after one another: pairs of experts, repeats, transitions between layers, positions.

Integers made from the expert ids alone, with whatever axes stand before: [L, G, Bk] as kept. A lag or a transition
never leaves a window, and a lag that would step over a token that is not counted (a special one) is not counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import product
from math import comb
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.metrics import set_index
from mixtral_probe.trace import Trace

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
MAX_LAG = 8
POSITION_BUCKETS = 16
MAX_SETS = 256
_PIECE_ELEMENTS = 2**20


@dataclass(frozen=True)
class Structure:
    """Counts over tokens or pairs of tokens."""

    pairs: Integers
    """[..., E, E] tokens that chose both experts, at whatever ranks; symmetric, 0 on the diagonal."""
    repeats: Integers
    """[..., lag - 1, 2, K + 1] pairs of tokens `lag` = 1 ... 8 apart: same first choice or not, experts in common."""
    positions: Integers
    """[..., P, E] choices by position in the window: 0, 1, 2-3, 4-7, ... and all beyond in the last bucket."""
    transitions: Integers
    """[pairs of layers first, ..., E, E] first choice in one layer, first choice of the same token in the other."""
    transitions_all: Integers
    """[pairs of layers first, ..., E, E] each of a token's K choices with each of its K in the other: K^2 a token."""
    sets: Integers
    """[..., S] tokens by all K experts they chose, as `metrics.set_index` numbers them; S is 0 unless `held_sets`."""

    def map(self, function: Callable[[Any], Any]) -> "Structure":
        """The same function applied to every array."""
        return Structure(**{name: function(array) for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, Integers]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(Structure)}


def held_sets(num_experts: int, chosen: int) -> int:
    """S, how many sets of K experts are told apart: all, but none for K <= 2 (`pairs` does) or above 256 of them."""
    sets = comb(num_experts, chosen)
    return sets if chosen > 2 and sets <= MAX_SETS else 0


def runs(tokens: pd.DataFrame, counted: Mask) -> Integers:
    """[T] the same number for counted tokens that follow one another without a gap; every other token has its own.

    Args:
        tokens: the tokens of a trace.
        counted: [T] which of them count.
    """
    place = {name: tokens[name].to_numpy() for name in ("document", "chunk", "position")}
    starts = ~counted | np.concatenate([[True], ~counted])[: len(counted)]
    starts |= np.diff(place["position"], prepend=-2) != 1
    for name in ("document", "chunk"):
        starts |= np.diff(place[name], prepend=-1) != 0
    return np.cumsum(starts, dtype=np.int64)


def position_buckets(positions: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """[...] the bucket of each position: 0, 1, 2-3, 4-7, ...; the last holds everything beyond."""
    return np.minimum(np.frexp(positions.astype(np.float64))[1], POSITION_BUCKETS - 1).astype(np.intp)


class _Piece(NamedTuple):
    """Some rows of a trace, the rows just behind them that a lag reaches, and where they are counted."""

    ids: NDArray[np.int16]
    """[K, L, n + up to MAX_LAG]"""
    run: Integers
    """[n + up to MAX_LAG]"""
    counted: Mask
    """[n]"""
    bucket: NDArray[np.intp]
    """[n]"""
    cells: NDArray[np.intp]
    """[c] the cells group * Bk + block that occur."""
    cell: NDArray[np.intp]
    """[n] which of them each row belongs to."""
    steps: NDArray[np.intp]
    """[2, pairs of layers] from which layer to which transitions are counted."""


def count_structure(
    trace: Trace,
    group: NDArray[np.intp],
    block: NDArray[np.intp],
    size: tuple[int, int],
    counted: Mask,
    steps: NDArray[np.intp],
) -> Structure:
    """All counts of a trace, a piece of rows at a time.

    Args:
        trace: the trace.
        group: [documents] which group each document belongs to.
        block: [documents] which block.
        size: (G, Bk).
        counted: [T] the tokens that count.
        steps: [2, pairs of layers] rows of the layers whose transitions are counted.
    """
    layers, chosen, experts = trace.num_layers, trace.num_experts_per_tok, trace.num_experts
    tails = {
        "pairs": (layers, (experts, experts)),
        "repeats": (layers, (MAX_LAG, 2, chosen + 1)),
        "positions": (layers, (POSITION_BUCKETS, experts)),
        "transitions": (steps.shape[1], (experts, experts)),
        "transitions_all": (steps.shape[1], (experts, experts)),
        "sets": (layers, (held_sets(experts, chosen),)),
    }
    totals = {name: np.zeros((lead, size[0] * size[1], *tail), np.int64) for name, (lead, tail) in tails.items()}
    for piece in _pieces(trace, group * size[1] + block, counted, steps):
        for name, count in _COUNTS.items():
            lead, tail = tails[name]
            totals[name][:, piece.cells] += count(piece, experts).reshape(lead, len(piece.cells), *tail)
    return Structure(**{name: total.reshape(len(total), *size, *tails[name][1]) for name, total in totals.items()})


def _pieces(
    trace: Trace, cell_of_document: NDArray[np.intp], counted: Mask, steps: NDArray[np.intp]
) -> Iterator[_Piece]:
    step = max(1, _PIECE_ELEMENTS // (trace.num_layers * trace.num_experts_per_tok))
    for start in range(0, len(trace), step):
        own, reach = slice(start, start + step), slice(start, start + step + MAX_LAG)
        ids = np.ascontiguousarray(np.moveaxis(np.asarray(trace.expert_ids[:, reach]), -1, 0))
        # Numbers of runs are compared within a piece alone, so a piece may count them from anywhere.
        run, tokens = runs(trace.tokens.iloc[reach], counted[reach]), trace.tokens.iloc[own]
        bucket = position_buckets(tokens["position"].to_numpy())
        cells, place = np.unique(cell_of_document[tokens["document"].to_numpy()], return_inverse=True)
        yield _Piece(ids, run, counted[own], bucket, cells, place, steps)


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
            found = _tally(ids[first] * experts + ids[second], valid, piece.cell, cells, experts**2)
            total += found.reshape(total.shape)
    return total + total.swapaxes(-1, -2)


def _transitions(piece: _Piece, experts: int) -> Integers:
    return _steps(piece, experts, 1)


def _transitions_all(piece: _Piece, experts: int) -> Integers:
    return _steps(piece, experts, len(piece.ids))


def _steps(piece: _Piece, experts: int, ranks: int) -> Integers:
    """[pairs of layers, cells, E * E] choices of the first ranks in one layer by those in the other."""
    here, there = (piece.ids[:ranks, layers, : len(piece.cell)].astype(np.intp) for layers in piece.steps)
    total = np.zeros((piece.steps.shape[1], len(piece.cells), experts**2), np.int64)
    for mine, theirs in product(here, there):
        valid = piece.counted & (mine >= 0) & (theirs >= 0)
        total += _tally(mine * experts + theirs, valid, piece.cell, len(piece.cells), experts**2)
    return total


def _sets(piece: _Piece, experts: int) -> Integers:
    layers, sets = piece.ids.shape[1], held_sets(experts, len(piece.ids))
    if not sets:
        return np.zeros((layers, len(piece.cells), 0), np.int64)
    ids = np.moveaxis(piece.ids[:, :, : len(piece.cell)], 0, -1)
    valid = piece.counted & (ids >= 0).all(-1)
    return _tally(set_index(ids), valid, piece.cell, len(piece.cells), sets)


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
    """[L, cells, 2 (K + 1)] for one lag; a pair counts where its first token stands."""
    chosen, _, rows = piece.ids.shape
    n = max(min(len(piece.cell), rows - lag), 0)
    here, there = piece.ids[:, :, :n], piece.ids[:, :, lag : lag + n]
    same = here[0] == there[0]
    common = np.zeros(same.shape, np.intp)
    for mine in here:
        for theirs in there:
            common += (mine == theirs) & (mine >= 0)
    valid = (piece.run[:n] == piece.run[lag : lag + n]) & (here[0] >= 0) & (there[0] >= 0)
    return _tally(same * (chosen + 1) + common, valid, piece.cell[:n], len(piece.cells), 2 * (chosen + 1))


_COUNTS: dict[str, Callable[[_Piece, int], Integers]] = {
    "pairs": _pairs,
    "repeats": _repeats,
    "positions": _positions,
    "transitions": _transitions,
    "transitions_all": _transitions_all,
    "sets": _sets,
}
