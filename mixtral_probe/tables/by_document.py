"""Sums that a result holds per document, put together by group and block of documents, with intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import jackknife_interval
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.frame import Estimate, estimate_rows
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
        """The documents by a label; without one, or without the label "domain", all together.

        Raises:
            InputError: another label is asked for that the documents lack.
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
        held = np.asarray(values, np.float64)
        out = np.zeros((self.blocks, len(self.groups), len(held), *held.shape[2:]))
        for document, values_of in enumerate(np.moveaxis(held, 1, 0)):
            out[self.block[document], self.members[:, document]] += values_of
        return np.moveaxis(out, (2, 1, 0), (0, 1, 2))


@dataclass(frozen=True)
class Ratio:
    """One metric: a formula of sums [L, G, Bk, ...] with values [L, G, ...], and what its rows are about."""

    metric: str
    formula: Callable[..., Floats]
    parts: tuple[Floats, ...]
    sizes: Floats
    """[L, G, Bk, ...] tokens of each block; its sum is n."""
    null: ArrayLike
    scope: str
    empty: str
    bounds: tuple[float, float] = (0.0, np.inf)

    def rows(self, keys: Mapping[str, Any], folded: bool) -> pd.DataFrame:
        """The metric's rows with jackknife intervals, none where the value rests on one block."""
        totals = [part.sum(2) for part in self.parts]
        value = self.formula(*totals)
        left = [total[:, :, None] - part for total, part in zip(totals, self.parts, strict=True)]
        deleted = np.moveaxis(self.formula(*left), 2, -1)
        sizes = np.broadcast_to(np.moveaxis(self.sizes, 2, -1), deleted.shape)
        low, high = (np.clip(end, *self.bounds) for end in jackknife_interval(value, deleted, sizes))
        # Without a value for the rest, leaving out a block gives no interval, however many blocks there are.
        blocks = np.where(np.isnan(low), np.minimum((sizes > 0).sum(-1), 1), (sizes > 0).sum(-1))
        n = np.where(np.isnan(value), 0, self.sizes.sum(2)).astype(np.int64)
        found = Estimate(value, low, high, blocks, folded)
        return estimate_rows(keys, self.metric, found, self.null, n, self.scope, self.empty)


def grid(result: Result, groups: tuple[str, ...], *axes: str) -> dict[str, Any]:
    """The keys layer, group and the named axes of a result, shaped to broadcast."""
    tail = (1,) * len(axes)
    layers = np.array(result.axis("layer")).reshape(-1, 1, *tail)
    keys = {"layer": layers, "group": np.array(groups, dtype=object).reshape(-1, *tail)}
    for place, axis in enumerate(axes):
        keys[axis] = np.array(result.axis(axis)).reshape([-1 if own == place else 1 for own in range(len(axes))])
    return keys
