"""Sums of values of single windows or documents, each of which needs all tokens of its own.

These may come in several parts, so the last window or document is kept open until another begins.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats.sums import Cells, Integers, SumsByName, add_cells

_CHUNK_BITS = 32
_Sums = TypeVar("_Sums", bound=SumsByName)


def names_of_windows(document: NDArray[Any], chunk: NDArray[Any]) -> Integers:
    """[n] one number for document and chunk, which rises along a trace."""
    return document.astype(np.int64) << _CHUNK_BITS | chunk


def names_of_documents(document: NDArray[Any]) -> Integers:
    """[n] one number for each document, which rises along a trace."""
    return document.astype(np.int64) << _CHUNK_BITS


def documents_of(names: Integers) -> Integers:
    """[n] the documents of windows, or documents, with these names."""
    return names >> _CHUNK_BITS


class UnitValues(Generic[_Sums]):
    """The sums [L, G, Bk, ...] of values of windows, or of documents.

    Args:
        cells: where each document's values are added.
        values: the values [L, W, ...] by name of windows, or documents, with these sums.
        one: [1, 1, ...] sums of 0 of one of them.
        layers: L.
    """

    def __init__(
        self, cells: Cells, values: Callable[[_Sums], dict[str, NDArray[Any]]], one: _Sums, layers: int
    ) -> None:
        self._cells, self._values = cells, values
        lead = (layers, *cells.size)
        self._total = {name: np.zeros((*lead, *array.shape[2:]), array.dtype) for name, array in values(one).items()}
        self._open: tuple[Integers, _Sums] | None = None

    def update(self, names: Integers, sums: _Sums) -> None:
        """Add windows, or documents, in the order of the trace, in place.

        Args:
            names: [W] as `names_of_windows` or `names_of_documents` makes them, ascending; one may occur again.
            sums: [L, W, ...] of each.
        """
        names, sums = _joined(names, sums) if self._open is None else _joined(*_concatenated(self._open, (names, sums)))
        self._add(names[:-1], sums.map(lambda array: array[:, :-1]))
        self._open = names[-1:], sums.map(lambda array: array[:, -1:])

    def finish(self) -> dict[str, NDArray[Any]]:
        """Add the last one and return the sums by name; no update may follow."""
        if self._open is not None:
            self._add(*self._open)
        return self._total

    def _add(self, names: Integers, sums: _Sums) -> None:
        document = documents_of(names)
        for name, array in self._values(sums).items():
            add_cells(self._total[name], self._cells.group[document], self._cells.block[document], array)


def _concatenated(first: tuple[Integers, _Sums], second: tuple[Integers, _Sums]) -> tuple[Integers, _Sums]:
    after = second[1].arrays()
    together = {name: np.concatenate([array, after[name]], axis=1) for name, array in first[1].arrays().items()}
    return np.concatenate([first[0], second[0]]), type(first[1])(**together)


def _joined(names: Integers, sums: _Sums) -> tuple[Integers, _Sums]:
    """Add up neighbours with one name; sums [L, W, ...]."""
    starts = np.flatnonzero(np.diff(names, prepend=-1))
    return names[starts], sums.map(lambda array: np.add.reduceat(array, starts, axis=1))
