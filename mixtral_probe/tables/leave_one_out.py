"""The one estimator: a formula of sums kept by block of documents → value, corrected value, interval, null, n, scope.

A block is a document, or several where there are more documents than blocks. Leaving out one block at a time shows how
far the value depends on which documents were read (`metrics.jackknife`). `value` is the published formula of all
blocks; `corrected` is the same less the bias that the formula has with few documents; the interval is about it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics import jackknife
from mixtral_probe.tables.frame import rows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]
Bounds = tuple[float, float]
ANY: Bounds = (-np.inf, np.inf)
ABOUT_CORRECTED = "95 % interval of `corrected`, the value without the bias of few documents"
"""What the scope of a row with an interval says about it."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; every array has the shape [...] of the value."""

    value: Floats
    """[...] the published formula."""
    corrected: Floats
    """[...] the same without the bias of few blocks, inside the interval; NaN without an interval."""
    low: Floats
    """[...] NaN without an interval."""
    high: Floats
    blocks: Integers
    """[...] blocks of documents the value depends on; fewer than 2 give no interval."""
    folded: bool
    """Whether a block may hold several documents."""

    def less(self, null: ArrayLike) -> "Estimate":
        """Return the same interval for the value less what chance alone gives."""
        return replace(self, value=self.value - np.asarray(null, np.float64))


def estimate(
    value: Floats,
    deleted: Floats,
    sizes: Integers,
    *,
    folded: bool,
    bounds: Bounds = ANY,
    axis: int | None = None,
    strata: Places | None = None,
    quantiles: Literal["joint", "own"] = "joint",
) -> Estimate:
    """Return a value with its jackknife interval, cut to the metric's range.

    Args:
        value: [..., tail] the formula of all blocks.
        deleted: [..., Bk, tail] the formula with one block left out.
        sizes: [..., Bk] or [..., Bk, tail] tokens per block; a block without tokens does not count.
        folded: whether a block may hold several documents.
        bounds: the range of the metric.
        axis: of the blocks; by default the last of `sizes`.
        strata: [Bk] as in `metrics.jackknife`; then blocks are counted in the stratum with the fewest.
        quantiles: as in `metrics.jackknife`.
    """
    axis = sizes.ndim - 1 if axis is None else axis
    sizes_by_block = np.moveaxis(sizes.reshape(*sizes.shape, *(1,) * (deleted.ndim - sizes.ndim)), axis, -1)
    numbers = jackknife(value, np.moveaxis(deleted, axis, -1), sizes_by_block, strata=strata, quantiles=quantiles)
    corrected, low, high = (np.clip(number, *bounds) for number in numbers)
    blocks = np.broadcast_to(_count_blocks(sizes_by_block, strata), value.shape)
    # Where the formula has no value for the rest, leaving out a block gives no interval, however many there are.
    blocks = np.where(np.isnan(low), np.minimum(blocks, 1), blocks)
    return Estimate(value, corrected, low, high, blocks, folded)


def _count_blocks(sizes: Integers, strata: Places | None) -> Integers:
    """[...] blocks with tokens of sizes [..., Bk], or of the stratum with the fewest, empty strata left out."""
    if strata is None:
        return (sizes > 0).sum(-1)
    by_stratum = np.stack([(sizes[..., strata == kind] > 0).sum(-1) for kind in {0, *strata.tolist()}])
    return np.where(by_stratum > 0, by_stratum, by_stratum.max(0)).min(0)


def leave_one_out(
    formula: Callable[..., Floats],
    sums: Sequence[NDArray[Any]],
    sizes: Integers,
    *,
    folded: bool,
    bounds: Bounds = ANY,
    axis: int | None = None,
) -> Estimate:
    """Return a formula of sums with its interval.

    Args:
        formula: of sums over blocks, [..., tail] each; it must accept further axes before the tail.
        sums: [..., Bk, tail] each, by block.
        sizes, folded, bounds, axis: as in `estimate`.
    """
    axis = sizes.ndim - 1 if axis is None else axis
    totals = [part.sum(axis) for part in sums]
    deleted = formula(*(np.expand_dims(total, axis) - part for total, part in zip(totals, sums, strict=True)))
    return estimate(formula(*totals), deleted, sizes, folded=folded, bounds=bounds, axis=axis)


def recount(
    formula: Callable[[Integers], float],
    count: Callable[[Places], Integers],
    block: Places,
    number: int,
    *,
    folded: bool,
    bounds: Bounds = ANY,
    strata: Places | None = None,
) -> Estimate:
    """Return a formula of counts of tokens with its interval; the tokens of each block are counted here.

    Args:
        formula: of the counts of any tokens; it must keep the shares of strata fixed.
        count: the counts of the tokens with these numbers; of several sets of tokens they add up.
        block: [n] the block of each token.
        number: of blocks.
        folded, bounds, strata: as in `estimate`.
    """
    order = np.argsort(block, kind="stable")
    sizes = np.bincount(block, minlength=number)
    parts = [count(tokens) for tokens in np.split(order, np.cumsum(sizes)[:-1])]
    total = sum(parts[1:], parts[0])
    deleted = np.array([formula(total - part) for part in parts])
    return estimate(np.asarray(formula(total)), deleted, sizes, folded=folded, bounds=bounds, strata=strata)


def without_interval(value: ArrayLike) -> Estimate:
    """Return a value without an interval, which would be wrong; its scope must say why."""
    value = np.asarray(value)
    none = np.full(value.shape, np.nan)
    return Estimate(value, none, none, none, np.full(value.shape, 2), folded=False)


def estimate_rows(
    keys: Mapping[str, Any],
    metric: str,
    estimate: Estimate,
    null: ArrayLike,
    n: ArrayLike,
    scope: ArrayLike,
    empty: str = "no tokens",
) -> pd.DataFrame:
    """Return rows of one metric with intervals; where there is none, the scope says why.

    Args:
        keys: of the rows, broadcast against the value.
        metric: its name.
        estimate: value and interval.
        null: what chance gives.
        n: tokens; its axes are the first of the value's.
        scope: what the value is about.
        empty: why n may be 0.
    """
    shape = estimate.value.shape
    tokens = np.where(np.isnan(estimate.value), 0, _with_trailing_axes(n, shape))
    one_block = _add(scope, f"one {'block of documents' if estimate.folded else 'document'}: no interval")
    missing = _add(scope, f"not enough data: {empty}")
    with_interval = np.where(np.isnan(estimate.low), scope, _add(scope, ABOUT_CORRECTED))
    scopes = np.where(tokens == 0, missing, np.where(estimate.blocks < 2, one_block, with_interval))
    numbers = (estimate.value, estimate.low, estimate.high)
    return rows(keys, metric, *numbers, corrected=estimate.corrected, null=null, n=tokens, scope=scopes)


def _add(scope: ArrayLike, words: str) -> NDArray[np.object_]:
    return np.asarray([f"{text}; {words}" for text in np.ravel(scope)], object).reshape(np.shape(scope))


def _with_trailing_axes(array: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(array)
    return np.broadcast_to(array.reshape((*array.shape, *(1,) * (len(shape) - array.ndim))), shape)


class BlockFormula(NamedTuple):
    """A metric as a formula of sums kept by block, and what its rows are about."""

    metric: str
    formula: Callable[..., Floats]
    sums: tuple[NDArray[Any], ...]
    """[L, G, Bk, tail] each."""
    null: ArrayLike
    n: ArrayLike
    """[L, G, tail]"""
    scope: str
    empty: str = "no tokens"
    """Why n may be 0."""
    bounds: Bounds = (0.0, 1.0)

    def rows(self, keys: Mapping[str, Any], sizes: NDArray[Any], *, folded: bool) -> pd.DataFrame:
        """Return the metric's rows; sizes: [L, G, Bk, tail] tokens per block, the tail possibly of length 1."""
        estimate = leave_one_out(self.formula, self.sums, sizes, folded=folded, bounds=self.bounds, axis=2)
        return estimate_rows(keys, self.metric, estimate, self.null, self.n, self.scope, self.empty)
