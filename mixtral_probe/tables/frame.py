"""How a metric becomes rows: values, jackknife interval, null, n and a scope that says what is missing and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics import jackknife_interval
from mixtral_probe.stats import ALL, RoutingStats, Sums, with_all

Floats = NDArray[np.float64]
Statistic = Callable[[Sums], Floats]
VALUE_COLUMNS = ("metric", "value", "low", "high", "null", "n", "scope")
INTEGERS = (
    *("layer", "other_layer", "expert", "other_expert", "rank", "head", "bin", "lag", "step"),
    *("document", "chunk", "position", "n"),
    *("capacity", "place", "ranks", "replicas"),
    "min_count",
    *("token_id", "place", "gate_rank", "norm_rank", "size"),
)
FLOATS = ("capacity_factor", "threshold", "left", "right", "value", "low", "high", "null")


@dataclass(frozen=True)
class View:
    """What the statistics of a table are made from, with the group "all" beside the groups asked for."""

    stats: RoutingStats
    groups: tuple[str, ...]
    """[G] the groups, then "all"."""
    total: Sums
    """[L, G, ...]"""
    deleted: Sums
    """[L, G, Bk, ...] with one block left out."""
    sizes: NDArray[np.int64]
    """[L, G, Bk] tokens per block."""

    @classmethod
    def of(cls, stats: RoutingStats) -> "View":
        """Statistics as tables see them. The group "all" is the sum of the groups."""
        both = stats if stats.by is None else _with_all(stats)
        return cls(stats, both.groups, both.total(), both.without_block(), both.sums.tokens)

    @property
    def tokens_scope(self) -> str:
        """Which tokens were counted, in words."""
        special = "all tokens" if self.stats.include_special else "special tokens out"
        return special if self.stats.where is None else f"{special}; where {self.stats.where}"

    def keys(self, **more: ArrayLike) -> dict[str, Any]:
        """The keys layer [L, 1, ...] and group [G, ...], shaped to broadcast with the axes of `more` after them."""
        tail = (1,) * len(more)
        layer = np.array(self.stats.layers).reshape(-1, 1, *tail)
        group = np.array(self.groups, dtype=object).reshape(-1, *tail)
        values = [np.asarray(values) for values in more.values()]
        grids = {
            name: value.reshape([-1 if axis == own else 1 for axis in range(len(values))])
            for own, (name, value) in enumerate(zip(more, values, strict=True))
        }
        return {"layer": layer, "group": group} | grids


def _with_all(stats: RoutingStats) -> RoutingStats:
    sums = stats.sums.map(lambda array: with_all(array, stats.by))
    return replace(stats, groups=(*stats.groups, ALL), sums=sums, histogram=None)


@dataclass(frozen=True)
class Estimate:
    """A statistic with its interval: arrays [..., tail] as the statistic returns them."""

    value: Floats
    low: Floats
    high: Floats
    blocks: NDArray[np.int64]
    """[...] blocks of documents that had tokens."""
    folded: bool
    """Whether a block may hold several documents."""


def estimate(
    value: Floats,
    deleted: Floats,
    sizes: NDArray[np.int64],
    folded: bool,
    bounds: tuple[float, float],
    strata: NDArray[np.intp] | None = None,
) -> Estimate:
    """A statistic [..., tail] with its jackknife interval, cut to the metric's range.

    Args:
        value: [..., tail].
        deleted: [..., Bk, tail] the statistic with one block left out.
        sizes: [..., Bk] tokens per block.
        folded: whether a block may hold several documents.
        bounds: the range of the metric.
        strata: [Bk] as in `jackknife_interval`; then blocks are counted in the stratum that has fewest.
    """
    axis, tail = sizes.ndim - 1, value.ndim - (sizes.ndim - 1)
    among = np.moveaxis(sizes.reshape(*sizes.shape, *(1,) * tail), axis, -1)
    low, high = jackknife_interval(value, np.moveaxis(deleted, axis, -1), among, strata=strata)
    return Estimate(value, np.clip(low, *bounds), np.clip(high, *bounds), _blocks(sizes, strata), folded)


def _blocks(sizes: NDArray[np.int64], strata: NDArray[np.intp] | None) -> NDArray[np.int64]:
    """[...] blocks with tokens of sizes [..., Bk], or of the stratum that has fewest but some."""
    if strata is None:
        return (sizes > 0).sum(-1)
    each = np.stack([(sizes[..., strata == kind] > 0).sum(-1) for kind in {0, *strata.tolist()}])
    return np.where(each > 0, each, each.max(0)).min(0)


def measure(
    view: View,
    statistic: Statistic,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    sizes: NDArray[np.int64] | None = None,
) -> Estimate:
    """A statistic of the sums: [L, G, tail] of sums [L, G, ...], and [L, G, Bk, tail] of sums [L, G, Bk, ...].

    A statistic that takes away the axis of layers or groups needs `sizes`, the tokens per block without that axis.
    """
    sizes = view.sizes if sizes is None else sizes
    return estimate(statistic(view.total), statistic(view.deleted), sizes, view.stats.folded, bounds)


def estimate_rows(
    keys: Mapping[str, Any],
    metric: str,
    found: Estimate,
    null: ArrayLike,
    n: ArrayLike,
    scope: str,
    empty: str = "no tokens",
) -> pd.DataFrame:
    """Rows of one metric with intervals; the scope says where there is none. `n` has the first axes of the value.

    `empty` tells why n is 0 where it is.
    """
    shape = found.value.shape
    blocks, tokens = (_as_leading(array, shape) for array in (found.blocks, n))
    few = f"{scope}; one {'block of documents' if found.folded else 'document'}: no interval"
    scopes = np.where(tokens == 0, f"{scope}; not enough data: {empty}", np.where(blocks < 2, few, scope))
    return rows(keys, metric, found.value, found.low, found.high, null=null, n=tokens, scope=scopes)


def _as_leading(array: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(array)
    return np.broadcast_to(array.reshape((*array.shape, *(1,) * (len(shape) - array.ndim))), shape)


def rows(
    keys: Mapping[str, Any],
    metric: ArrayLike,
    value: ArrayLike,
    low: ArrayLike = np.nan,
    high: ArrayLike = np.nan,
    *,
    null: ArrayLike,
    n: ArrayLike,
    scope: ArrayLike,
) -> pd.DataFrame:
    """Rows of a metric, or of an array of metrics, everything broadcast against `value`.

    Missing numbers are NaN, missing integers NA.
    """
    columns = {**keys, "metric": metric, "value": value, "low": low, "high": high, "null": null, "n": n, "scope": scope}
    shape = np.broadcast_shapes(*(np.shape(column) for column in columns.values()))
    return pd.DataFrame({name: np.broadcast_to(column, shape).ravel() for name, column in columns.items()})


def tidy(parts: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """Parts of a table as one, in the documented order of columns and with its dtypes, sorted by its keys, then metric.

    Rows whose layer is empty (all layers pooled) come last.
    """
    columns = [*keys, *VALUE_COLUMNS]
    # Hundreds of small parts: one array per column is ten times faster than to give each part its dtypes.
    arrays = {name: np.concatenate([_column(part, name) for part in parts]) for name in columns}
    return typed_frame(pd.DataFrame(arrays)).sort_values([*keys, "metric"], kind="stable", ignore_index=True)


def _column(part: pd.DataFrame, name: str) -> NDArray[Any]:
    """[rows] one column, missing where the part has none."""
    if name not in part:
        return np.full(len(part), np.nan, np.float64 if name in FLOATS else object)
    column = part[name]
    return column.to_numpy(np.float64, na_value=np.nan) if name in FLOATS else column.to_numpy(object)


def typed_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The dtypes of every table of statistics: integer keys and n nullable Int64, numbers float64, the rest str."""
    numbers = dict.fromkeys(set(FLOATS) & set(frame.columns), "float64")
    texts = dict.fromkeys(set(frame.columns) - set(FLOATS) - set(INTEGERS), "str")
    return integers(frame.astype(numbers | texts))


def integers(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with its integer columns as nullable Int64."""
    return frame.astype(dict.fromkeys(set(INTEGERS) & set(frame.columns), "Int64"))


def missing_rows(keys: Mapping[str, Any], metric: str, shape: Sequence[int], why: str) -> pd.DataFrame:
    """Rows of a metric that cannot be had, saying why: value, interval and n are missing."""
    return rows(keys, metric, np.full(tuple(shape), np.nan), null=np.nan, n=0, scope=f"not enough data: {why}")
