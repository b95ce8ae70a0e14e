"""Many small counts in a byte each: enough for most token types, which occur a few times per group of documents.

A count is its low byte and, for the rows where some count exceeds 255, the rest of it. Such rows are few, since each
needs 256 choices; in the others eight bytes per count would be almost all zeros.
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
        """Pack counts [R, L, E]."""
        rows = np.flatnonzero((counts > 255).any((1, 2)))
        return cls(counts.astype(np.uint8, order="C"), rows, counts[rows].astype(np.int64) >> 8)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.low.nbytes + self.rows.nbytes + self.high.nbytes

    def take(self, rows: NDArray[np.intp]) -> "ByteCounts":
        """Return some rows, named in ascending order."""
        kept = np.isin(self.rows, rows)
        return ByteCounts(self.low[rows], np.searchsorted(rows, self.rows[kept]), self.high[kept])

    def of_layer(self, layer: int) -> "ByteCounts":
        """[R, 1, E] the counts of one layer, by its place."""
        return ByteCounts(self.low[:, layer : layer + 1], self.rows, self.high[:, layer : layer + 1])

    def widened(self, columns: int) -> "ByteCounts":
        """[R, L, columns] the same with counts of 0 in further columns."""
        missing = columns - self.low.shape[-1]
        if not missing:
            return self
        ends = ((0, 0), (0, 0), (0, missing))
        return ByteCounts(np.pad(self.low, ends), self.rows, np.pad(self.high, ends))

    def unpacked(self) -> Integers:
        """[R, L, E] the counts as they are."""
        return self._as(np.dtype(np.int64))

    def narrow(self) -> NDArray[Any]:
        """[R, L, E] the counts as they are, in the smallest unsigned type that fits them all."""
        return self._as(np.min_scalar_type((int(self.high.max(initial=0)) << 8) + 255))

    def _as(self, kind: np.dtype[Any]) -> NDArray[Any]:
        counts = self.low.astype(kind)
        counts[self.rows] += (self.high << 8).astype(kind)
        return counts


def sum_rows(size: int, parts: Sequence[tuple[NDArray[np.intp], ByteCounts]]) -> ByteCounts:
    """Add parts laid out over `size` rows; the result shares no memory with them.

    Args:
        size: R.
        parts: for each, the row to which each of its rows is added, none twice, and its counts.
    """
    first, *others = sorted(parts, key=lambda part: -len(part[0]))
    low = np.zeros((size, *first[1].low.shape[1:]), np.uint8)
    low[first[0]] = first[1].low
    above: list[tuple[NDArray[np.intp], NDArray[Any]]] = [(place[part.rows], part.high) for place, part in parts]
    for place, part in others:
        above += _carried(low, place, part.low)
    rows = np.unique(np.concatenate([at for at, _ in above]))
    high = np.zeros((len(rows), *low.shape[1:]), np.int64)
    for at, counts in above:
        high[np.searchsorted(rows, at)] += counts
    return ByteCounts(low, rows, high)


def _carried(
    low: NDArray[np.uint8], place: NDArray[np.intp], more: NDArray[np.uint8]
) -> list[tuple[NDArray[np.intp], NDArray[Any]]]:
    """Add `more` [r, L, E] to `low` at the rows `place`, in place; return the rows that overflowed, and the carries."""
    carries = []
    for start in range(0, len(place), _PIECE_ROWS):
        at = place[start : start + _PIECE_ROWS]
        total = low[at].astype(np.uint16)
        total += more[start : start + _PIECE_ROWS]
        low[at] = total.astype(np.uint8)
        total >>= 8
        over = np.flatnonzero(total.any((1, 2)))
        if over.size:
            carries.append((at[over], total[over]))
    return carries
