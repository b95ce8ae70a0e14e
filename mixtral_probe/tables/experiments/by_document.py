"""Sums per document of a result, added up by group and block of documents."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.leave_one_out import BlockFormula, Bounds
from mixtral_probe.trace import Result

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ByDocument:
    """The documents of a result in groups and blocks."""

    groups: tuple[str, ...]
    """The values of a label, then "all"."""
    members: NDArray[np.bool_]
    """[G, documents]"""
    block: NDArray[np.intp]
    """[documents]"""
    blocks: int
    folded: bool
    """Whether a block may hold several documents."""

    @classmethod
    def of(cls, result: Result, by: str | None) -> "ByDocument":
        """Return the documents by a label; without one, or without the label "domain", all together.

        Raises:
            InputError: the documents lack the label, which is not "domain".
        """
        ids, labels = result.axis("document"), result.meta.get("documents", {})
        if by is not None and by != "domain" and by not in labels:
            raise InputError(f"documents must have the label {by!r}, but theirs are {', '.join(labels) or 'none'}")
        values = np.array(labels.get(by, [""] * len(ids)), dtype=object)
        names = sorted(set(values)) if by in labels else []
        blocks = Blocks.of(ids)
        members = np.array([*(values == name for name in names), np.ones(len(ids), bool)])
        return cls((*names, ALL), members, blocks.of_document, blocks.number, blocks.folded)

    def sums(self, values: ArrayLike) -> Floats:
        """[L, G, Bk, ...] of the values [L, documents, ...]."""
        by_document = np.asarray(values, np.float64)
        out = np.zeros((self.blocks, len(self.groups), len(by_document), *by_document.shape[2:]))
        for document, values_of in enumerate(np.moveaxis(by_document, 1, 0)):
            out[self.block[document], self.members[:, document]] += values_of
        return np.moveaxis(out, (2, 1, 0), (0, 1, 2))

    def ratio_rows(
        self,
        keys: dict[str, Any],
        metric: str,
        above: Floats,
        below: Floats,
        *,
        null: ArrayLike,
        scope: str,
        empty: str = "no tokens",
        bounds: Bounds = (0.0, np.inf),
    ) -> pd.DataFrame:
        """Return rows of a ratio of two sums [L, G, Bk, ...] with intervals over documents; n is the sum of `below`."""
        n = below.sum(2).astype(np.int64)
        formula = BlockFormula(metric, metrics.ratio, (above, below), null, n, scope, empty, bounds)
        return formula.rows(keys, below, folded=self.folded)


def grid(result: Result, groups: tuple[str, ...], *axes: str) -> dict[str, Any]:
    """Return the keys layer, group and the named axes of a result, shaped to broadcast."""
    tail = (1,) * len(axes)
    layers = np.array(result.axis("layer")).reshape(-1, 1, *tail)
    keys = {"layer": layers, "group": np.array(groups, dtype=object).reshape(-1, *tail)}
    for place, axis in enumerate(axes):
        keys[axis] = np.array(result.axis(axis)).reshape([-1 if number == place else 1 for number in range(len(axes))])
    return keys
