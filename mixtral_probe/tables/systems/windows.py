"""The windows of a trace in the order of the text, with the group and block of each; ratios of sums over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks, groups_of, with_all
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.scope import selected_rows, tokens_scope
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Windows:
    """Windows of counted tokens, and the cells (group, block) their sums go to."""

    layers: tuple[int, ...]
    """[L] the number of each layer in the model."""
    groups: tuple[str, ...]
    """[G] the groups of `by`, then "all"; without `by`, "all" only."""
    by: str | None
    """The label the groups come from."""
    rows: tuple[Places, ...]
    """[W] the rows of each window's tokens in the trace; of a selection, those selected in some layer."""
    lengths: Integers
    """[1, W] tokens of each window; [L, W] where a selection has other tokens in other layers."""
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
        """Return the windows of a trace, from its beginning until `most_tokens` are reached; none without a token.

        Raises:
            InputError: no such label.
        """
        names, group = groups_of(trace, by)
        counted = np.flatnonzero(selected_rows(trace, include_special))
        cut = counted[:most_tokens]
        document, chunk = (trace.tokens[name].to_numpy()[cut] for name in ("document", "chunk"))
        starts = np.flatnonzero((np.diff(document, prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0))
        rows = tuple(np.split(cut, starts[1:])) if len(cut) else ()
        blocks, owner, words = Blocks.of(trace.documents["id"]), document[starts], tokens_scope(trace, include_special)
        return cls(
            layers=trace.layers,
            groups=names if by is None else (*names, ALL),
            by=by,
            rows=rows,
            lengths=_lengths(trace, rows),
            group=group[owner],
            block=blocks.of_document[owner],
            size=(len(names), blocks.number),
            folded=blocks.folded,
            tokens_scope=words if len(cut) == len(counted) else f"{words}; the first {len(cut):,} tokens",
        )

    def places(self, ids: NDArray[np.int16]) -> Places:
        """[1 or L, S] how many tokens of the window come before each in a layer; -1 before the first selected one.

        Args:
            ids: [L, S, K] experts of the window's tokens.
        """
        if len(self.lengths) == 1:
            return np.arange(ids.shape[1])[None]
        return np.cumsum(ids[..., 0] >= 0, axis=1) - 1

    def counts(self, trace: Trace) -> Integers:
        """[L, W, E] how often each window chose each expert."""
        counts = np.zeros((trace.num_layers, len(self.rows), trace.num_experts), np.int64)
        for window, rows in enumerate(self.rows):
            ids = np.asarray(trace.expert_ids[:, rows])
            counts[:, window] = metrics.chosen_mask(ids, trace.num_experts).sum((1, 2))
        return counts

    def of_group(self, number: int) -> NDArray[np.bool_]:
        """[W] which windows belong to a group; to the last, "all", every one."""
        return self.group == number if number < self.size[0] else np.ones(len(self.rows), bool)

    def layer_lengths(self, group: int) -> Iterator[tuple[Places, Integers]]:
        """Yield layers, as rows of the trace's arrays, with the tokens [w] of their windows in a group; none without.

        Layers whose windows are the same come together.
        """
        lengths, layers = self.lengths[:, self.of_group(group)], np.arange(len(self.layers))
        for row, of_row in zip(layers.reshape(len(lengths), -1), lengths, strict=True):
            if of_row.any():
                yield row, of_row[of_row > 0]

    def summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """[L, G, Bk, ...] the sums of values [L, W, ...] by group and block, with the group "all" last if grouped."""
        total = np.zeros((values.shape[0], *self.size, *values.shape[2:]), values.dtype)
        cells: Any = (slice(None), self.group, self.block)
        np.add.at(total, cells, values)
        return with_all(total, self.by)


def _lengths(trace: Trace, rows: Sequence[Places]) -> Integers:
    """[1, W] tokens of each window, or [L, W] where those selected differ between layers."""
    every = np.array([[len(window) for window in rows]], np.int64)
    if trace.where is None:
        return every
    present = [(np.asarray(trace.expert_ids[:, window, 0]) >= 0).sum(1) for window in rows]
    each = np.array(present, np.int64).reshape(len(rows), trace.num_layers).T
    return every if (each == every).all() else each


class WindowRatio(NamedTuple):
    """One metric: a ratio of sums over windows, and what its rows are about."""

    name: str
    top: NDArray[Any]
    """[L, G, Bk, tail] the numerator."""
    bottom: Integers
    """[L, G, Bk, tail] the denominator."""
    tokens: Integers
    """[L, G, Bk, ...] what n counts, as broad as the tail or with axes of length 1. A document counts in the rows that
    have tokens of it: few reach the last bins of places."""
    null: Floats
    """Broadcast against [L, G, tail]."""
    null_of_all: Floats
    """Broadcast against [G, tail], for the rows of all layers together."""
    scope: str
    """Words about the value."""
    same_load: tuple[Floats, Floats] | None = None
    """The null of the same tokens in random order, as `null` and `null_of_all`; None without that column."""


def ratio_rows(windows: Windows, ratio: WindowRatio, axes: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return the rows of a ratio by layer and, with an empty layer, over all layers.

    Args:
        windows: where the sums come from.
        ratio: the metric.
        axes: the further keys, with the values of each axis of the tail.
    """
    layers, groups = np.array(windows.layers), np.array(windows.groups, dtype=object)
    tops, bottoms, tokens = ratio.top, ratio.bottom, ratio.tokens
    layer_keys = dict(zip(("layer", "group", *axes), np.ix_(layers, groups, *axes.values()), strict=True))
    all_keys = dict(zip(("group", *axes), np.ix_(groups, *axes.values()), strict=True))
    parts, second = [], ratio.same_load or (np.array(np.nan), np.array(np.nan))
    # A token counts once, although every layer routes it.
    sums_of_all = tops.sum(0), bottoms.sum(0), tokens.max(0), tokens.sum(2).max(0)
    for keys, (top, bottom, sizes, n), null, same_load, layers_scope in (
        (layer_keys, (tops, bottoms, tokens, tokens.sum(2)), ratio.null, second[0], "one layer"),
        (all_keys, sums_of_all, ratio.null_of_all, second[1], "all layers"),
    ):
        axis = top.ndim - len(axes) - 1
        how: dict[str, Any] = {"folded": windows.folded, "bounds": SHARE, "axis": axis, "events": top}
        estimate = leave_one_out(metrics.ratio, (top, bottom), sizes, **how)
        scope = f"{layers_scope}; {windows.tokens_scope}; {ratio.scope}"
        part = estimate_rows(keys, ratio.name, estimate, null, n, scope)
        parts.append(part.assign(null_same_load=np.broadcast_to(same_load, estimate.value.shape).ravel()))
    return pd.concat(parts, ignore_index=True)


def mean_over_layers(null: Floats, choices: Integers) -> Floats:
    """[...] the null of all layers together: the mean of the layers' nulls, weighted by choices where they differ.

    Args:
        null: [1 or L, ...] of each layer, NaN where it has no tokens.
        choices: [L, ...] of each layer, broadcast against `null`.
    """
    least, most = np.fmin.reduce(null, axis=0), np.fmax.reduce(null, axis=0)
    mean = metrics.weighted_mean(np.moveaxis(null, 0, -1), np.moveaxis(choices, 0, -1))
    return np.where(least == most, least, mean)
