"""Many small counts in a byte each: what most token types need, met a few times in each group of documents.

A count is its low byte and, for the rows where some count passes 255, what is above it. Rows with such a count are few,
since each takes 256 choices; the others would fill eight bytes a count with zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_PIECE_ROWS = 2**13


@dataclass(frozen=True)
class ByteCounts:
    """Non-negative integers [R, L, E]."""

    low: NDArray[np.uint8]
    """[R, L, E] the counts modulo 256."""
    rows: NDArray[np.intp]
    """[W] ascending: the rows with a count above 255."""
    high: Integers
    """[W, L, E] those rows' counts divided by 256, rounded down."""

    @classmethod
    def of(cls, counts: NDArray[Any]) -> "ByteCounts":
        """The same counts [R, L, E], packed."""
        rows = np.flatnonzero((counts > 255).any((1, 2)))
        return cls(counts.astype(np.uint8, order="C"), rows, counts[rows].astype(np.int64) >> 8)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.low.nbytes + self.rows.nbytes + self.high.nbytes

    def take(self, rows: NDArray[np.intp]) -> "ByteCounts":
        """The rows named, ascending."""
        own = np.isin(self.rows, rows)
        return ByteCounts(self.low[rows], np.searchsorted(rows, self.rows[own]), self.high[own])

    def unpacked(self) -> Integers:
        """[R, L, E] the counts as they are."""
        return self._as(np.dtype(np.int64))

    def narrow(self) -> NDArray[Any]:
        """[R, L, E] the counts as they are, in the smallest unsigned type that holds them all."""
        return self._as(np.min_scalar_type((int(self.high.max(initial=0)) << 8) + 255))

    def _as(self, kind: np.dtype[Any]) -> NDArray[Any]:
        counts = self.low.astype(kind)
        counts[self.rows] += (self.high << 8).astype(kind)
        return counts


def sum_rows(size: int, parts: Sequence[tuple[NDArray[np.intp], ByteCounts]]) -> ByteCounts:
    """The sum of parts laid out over `size` rows; a new object, with nothing of the parts in it.

    Args:
        size: R.
        parts: for each, at which row each of its rows stands, none twice, and its counts.
    """
    first, *others = sorted(parts, key=lambda part: -len(part[0]))
    low = np.zeros((size, *first[1].low.shape[1:]), np.uint8)
    low[first[0]] = first[1].low
    above: list[tuple[NDArray[np.intp], NDArray[Any]]] = [(place[part.rows], part.high) for place, part in parts]
    for place, part in others:
        above += _carried(low, place, part.low)
    rows = np.unique(np.concatenate([own for own, _ in above]))
    high = np.zeros((len(rows), *low.shape[1:]), np.int64)
    for own, counts in above:
        high[np.searchsorted(rows, own)] += counts
    return ByteCounts(low, rows, high)


def _carried(
    low: NDArray[np.uint8], place: NDArray[np.intp], more: NDArray[np.uint8]
) -> list[tuple[NDArray[np.intp], NDArray[Any]]]:
    """Add `more` [r, L, E] to `low` at the rows `place`, in place; the rows where bytes overflowed, and by how much."""
    found = []
    for start in range(0, len(place), _PIECE_ROWS):
        at = place[start : start + _PIECE_ROWS]
        total = low[at].astype(np.uint16)
        total += more[start : start + _PIECE_ROWS]
        low[at] = total.astype(np.uint8)
        total >>= 8
        over = np.flatnonzero(total.any((1, 2)))
        if over.size:
            found.append((at[over], total[over]))
    return found
