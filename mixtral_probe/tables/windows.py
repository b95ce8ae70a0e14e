"""The windows of a trace, one after another, with the group and block each belongs to: for what needs the order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks, counted_rows, groups_of, with_all
from mixtral_probe.tables.frame import estimate, estimate_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Windows:
    """Windows of counted tokens, and the cells (group, block) their sums go to."""

    layers: tuple[int, ...]
    """[L] the model's own number of each layer."""
    groups: tuple[str, ...]
    """[G] the groups asked for, then "all" where there are any."""
    by: str | None
    """The label the groups come from."""
    rows: tuple[Places, ...]
    """[W] the rows of each window's tokens in the trace."""
    group: Places
    """[W]"""
    block: Places
    """[W]"""
    size: tuple[int, int]
    """G, without "all", and Bk."""
    folded: bool
    """Whether a block may hold several documents."""
    tokens_scope: str
    """Which tokens these are, in words."""

    @classmethod
    def of(cls, trace: Trace, by: str | None, *, include_special: bool, most_tokens: int | None = None) -> "Windows":
        """The windows of a trace, from its beginning until `most_tokens` are reached; those without a token left out.

        Raises:
            InputError: no such label.
        """
        names, group = groups_of(trace, by)
        counted = np.flatnonzero(counted_rows(trace, include_special))
        cut = counted[:most_tokens]
        document, chunk = (trace.tokens[name].to_numpy()[cut] for name in ("document", "chunk"))
        starts = np.flatnonzero((np.diff(document, prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0))
        blocks = Blocks.of(trace.documents["id"])
        owner = document[starts]
        words = "all tokens" if include_special else "special tokens out"
        return cls(
            layers=trace.layers,
            groups=names if by is None else (*names, ALL),
            by=by,
            rows=tuple(np.split(cut, starts[1:])) if len(cut) else (),
            group=group[owner],
            block=blocks.of_document[owner],
            size=(len(names), blocks.number),
            folded=blocks.folded,
            tokens_scope=words if len(cut) == len(counted) else f"{words}; the first {len(cut):,} tokens",
        )

    @property
    def lengths(self) -> Integers:
        """[W] tokens of each window."""
        return np.array([len(rows) for rows in self.rows], np.int64)

    def summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """[L, G, Bk, ...] the sums of values [L, W, ...] by group and block, with the group "all" last if grouped."""
        total = np.zeros((values.shape[0], *self.size, *values.shape[2:]), values.dtype)
        cells: Any = (slice(None), self.group, self.block)
        np.add.at(total, cells, values)
        return with_all(total, self.by)


def ratio_rows(
    windows: Windows,
    names: Sequence[str],
    metric: str,
    parts: tuple[NDArray[Any], Integers],
    null: Floats,
    tokens: Integers,
    scope: str,
    **keys: NDArray[np.generic],
) -> pd.DataFrame:
    """Rows, by layer and over all layers, of a ratio of two sums [L, G, Bk, tail].

    Args:
        windows: where the counts come from.
        names: of the axes of the tail, whose values are `keys`.
        metric: its name.
        parts: above and below the line, of one shape.
        null: what broadcasts against [G, tail].
        tokens: [L, G, Bk, ...] what n counts, as broad as the tail or with axes of length 1.
        scope: words about the value.
        keys: the values of each axis of the tail.
    """
    top, bottom = parts
    tail = [
        keys[name].reshape([-1 if axis == own else 1 for axis in range(len(names))]) for own, name in enumerate(names)
    ]
    group = np.array(windows.groups, dtype=object).reshape(-1, *(1,) * len(names))
    own = {"group": group} | dict(zip(names, tail, strict=True))
    layer = {"layer": np.array(windows.layers).reshape(-1, 1, *(1,) * len(names))}
    made = []
    for more, a, b, n, where in (
        (layer, top, bottom, tokens, "one layer"),
        ({}, top.sum(0), bottom.sum(0), tokens.max(0), "all layers"),
    ):
        axis = a.ndim - len(names) - 1
        whole, below = (np.expand_dims(part.sum(axis), axis) for part in (a, b))
        sizes = n.reshape(*n.shape[: axis + 1], -1).max(-1)
        value = metrics.ratio(a.sum(axis), b.sum(axis))
        found = estimate(value, metrics.ratio(whole - a, below - b), sizes, windows.folded, (0.0, 1.0))
        blocks = np.broadcast_to(found.blocks.reshape(*found.blocks.shape, *(1,) * len(names)), value.shape)
        found = replace(found, blocks=np.where(np.isnan(found.low), np.minimum(blocks, 1), blocks))
        counted = np.where(np.isnan(value), 0, n.sum(axis))
        made.append(
            estimate_rows(more | own, metric, found, null, counted, f"{where}; {windows.tokens_scope}; {scope}")
        )
    return pd.concat(made, ignore_index=True)
