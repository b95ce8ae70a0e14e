"""Token x expert counts of one target, by fold of documents: what the tables about token types read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats.byte_counts import ByteCounts

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
FOLDS = 16
"""Sets of documents, by the first four bits of the hash of a document's id."""


@dataclass(frozen=True)
class TypeCounts:
    """How often the tokens of V types chose each expert; R rows, one for each fold and type that occurs in it."""

    ids: Integers
    """[V] token ids, ascending."""
    fold: Integers
    """[R] the fold of each row, below `FOLDS`; rows are in order of fold, then type."""
    place: Integers
    """[R] the type of each row, as its place in `ids`."""
    byte_counts: ByteCounts
    """[R, L, E or E + 1] how often each expert was chosen at any rank, and the choices that were not made, as in
    `Affinity.byte_counts`."""
    shape: tuple[int, int]
    """E and K."""
    halved: bool = False
    """Whether documents are known by half only, as in files of version 4: the halves are folds 0 and 8."""

    @property
    def counts(self) -> NDArray[Any]:
        """[L, R, E] how often each expert was chosen at any rank, in the smallest unsigned type that fits."""
        return np.moveaxis(self.byte_counts.narrow()[..., : self.shape[0]], 1, 0)

    @property
    def tokens(self) -> Floats:
        """[L, R] tokens of each row that went to experts in a layer.

        Fractional where some chose fewer than K experts and a file of an earlier version does not say how many.
        """
        return np.moveaxis(self.byte_counts.narrow().sum(-1, dtype=np.int64), 1, 0) / self.shape[1]

    def total_tokens(self) -> Floats:
        """[L, V] tokens of each type, as `tokens`."""
        return self._total().sum(-1) / self.shape[1]

    def total(self) -> Integers:
        """[L, V, E] the counts of all folds together."""
        return self._total()[..., : self.shape[0]]

    def _total(self) -> Integers:
        """[L, V, E or E + 1] the counts of all folds together."""
        counts = np.zeros((len(self.ids), *self.byte_counts.low.shape[1:]), np.int64)
        for fold in np.unique(self.fold):
            rows = np.flatnonzero(self.fold == fold)  # each type occurs once
            counts[self.place[rows]] += self.byte_counts.take(rows).unpacked()
        # Experts first in memory, since sums over few of them are fast that way.
        return np.moveaxis(np.ascontiguousarray(counts.transpose(2, 1, 0)), 0, -1)

    def of_layer(self, layer: int) -> Integers:
        """[R, E] the rows of one layer, by its place in the statistics."""
        return self.byte_counts.of_layer(layer).unpacked()[:, 0, : self.shape[0]]

    def by_fold(self, layer: int) -> Integers:
        """[FOLDS, V, E] the counts of one layer, by its place in the statistics, 0 where a type does not occur."""
        counts = np.zeros((FOLDS, len(self.ids), self.shape[0]), np.int64)
        counts[self.fold, self.place] = self.of_layer(layer)
        return counts
