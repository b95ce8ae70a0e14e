"""The one estimator: a formula of sums kept by block of documents → value, corrected value, interval, null, n, scope.

A block is a document, or several where there are more documents than blocks. Leaving out one block at a time shows how
far the value depends on which documents were read (`metrics.jackknife`). `value` is the published formula of all
blocks; `corrected` is the same less the bias that the formula has with few documents; the interval is about it. Where
few documents are part of what a formula measures, `corrected` is the value itself (see `estimate`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics import Jackknife, jackknife
from mixtral_probe.tables.frame import rows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]
Bounds = tuple[ArrayLike, ArrayLike]
ANY: Bounds = (-np.inf, np.inf)
MIN_DOCUMENTS = 5
"""The fewest documents, or blocks of documents, of an interval; of each stratum where there are several."""
WIDE_QUANTILE = 4.0
"""The scope gives the t quantile of an interval where it is above this: a few documents have most of the tokens."""
ABOUT_CORRECTED = "95 % interval of `corrected`, the value without the bias of few documents"
ABOUT_VALUE = "95 % interval of the value that as many other documents give"
"""What the scope of a row with an interval says about it."""
About = Literal["corrected", "value"]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; every array has the shape [...] of the value."""

    value: Floats
    """[...] the published formula."""
    corrected: Floats
    """[...] what the interval is about: the same without the bias of few blocks; NaN without an interval."""
    low: Floats
    """[...] NaN without an interval."""
    high: Floats
    words: NDArray[np.object_]
    """[...] what scope says about the interval, or why there is none."""

    def less(self, null: ArrayLike) -> "Estimate":
        """Return the same interval for the value less what chance alone gives."""
        return replace(self, value=self.value - np.asarray(null, np.float64))


def estimate(
    value: Floats,
    deleted: Floats,
    sizes: ArrayLike,
    *,
    folded: bool,
    bounds: Bounds = ANY,
    axis: int | None = None,
    strata: Places | None = None,
    essential: Sequence[int] = (),
    quantiles: Literal["joint", "own"] = "joint",
    curvature: float = 0.0,
    about: About = "corrected",
    events: ArrayLike | None = None,
    left_out: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Return a value with its jackknife interval, cut to the metric's range; none below `MIN_DOCUMENTS` blocks.

    Args:
        value: [..., tail] the formula of all blocks.
        deleted: [..., Bk, tail] the formula with one block left out.
        sizes: [..., Bk] or [..., Bk, tail] tokens per block; a block without tokens does not count.
        folded: whether a block may hold several documents.
        bounds: the range of the metric.
        axis: of the blocks; by default the last of `sizes`.
        strata: [Bk] as in `metrics.jackknife`; none with tokens may have one block alone.
        essential: the strata that the value is about, each of which must have `MIN_DOCUMENTS` blocks; by default all
            blocks together must.
        quantiles, curvature: as in `metrics.jackknife`.
        about: "value" where a formula depends on the number of documents by its definition, as that of experts found
            in some documents and tested in others: then the interval is about what as many other documents give.
        events: [..., Bk, tail] how often what a share counts occurs in each block. It must occur in `MIN_DOCUMENTS`
            blocks: the share of what is rarer is too skewed for an interval.
        left_out: of the shape of sizes, as in `metrics.jackknife`.
    """
    sizes = np.asarray(sizes)
    axis = sizes.ndim - 1 if axis is None else axis
    by_block, by_last = _blocks_last(sizes, deleted.ndim, axis), np.moveaxis(deleted, axis, -1)
    how: dict[str, Any] = {"strata": strata, "quantiles": quantiles, "curvature": curvature}
    how["left_out"] = None if left_out is None else _blocks_last(left_out, deleted.ndim, axis)
    found = jackknife(value, by_last, by_block, **how)
    found = _about_value(found, value) if about == "value" else found
    blocks, lone = _count_blocks(by_block, strata, essential, value.shape)
    occurs = blocks if events is None else np.broadcast_to((np.asarray(events) > 0).sum(axis), value.shape)
    without = {
        "few": (blocks < MIN_DOCUMENTS, _words_of_few(blocks, "a group of " if essential else "", folded)),
        "lone": (lone, f"a group of 1 {'block of documents' if folded else 'document'}: no interval"),
        "undefined": (np.isnan(found.low), "no value without one of the documents: no interval"),
        "rare": (occurs < MIN_DOCUMENTS, _words_of_few(occurs, "it occurs in ", folded)),
        "extreme": (_extreme(found, bounds), "the same extreme in every document: no interval"),
    }
    none = np.any([mask for mask, _ in without.values()], axis=0)
    corrected, low, high = (
        np.where(none, np.nan, np.clip(part, *bounds)) for part in (found.corrected, found.low, found.high)
    )
    words = _words_of_interval(found, about)
    for mask, why in reversed(without.values()):
        words = np.where(mask, np.asarray(why, object), words)
    return Estimate(value, corrected, low, high, words)


def _blocks_last(array: NDArray[Any], axes: int, axis: int) -> NDArray[Any]:
    """[..., Bk] an array with as many axes, further ones of length 1, and that of the blocks last."""
    return np.moveaxis(array.reshape(*array.shape, *(1,) * (axes - array.ndim)), axis, -1)


def _extreme(found: Jackknife, bounds: Bounds) -> NDArray[np.bool_]:
    """[...] whether every block is at one end of the metric's range, which tells nothing about other documents."""
    at_end = np.any([np.isclose(found.low, end, rtol=0, atol=1e-12) for end in bounds], axis=0)
    return at_end & (found.high - found.low < 1e-12)


def _about_value(found: Jackknife, value: Floats) -> Jackknife:
    """Return the interval moved so that its centre is the value."""
    bias = value - found.corrected
    return found._replace(corrected=found.corrected + bias, low=found.low + bias, high=found.high + bias)


def _count_blocks(
    sizes: NDArray[Any], strata: Places | None, essential: Sequence[int], shape: tuple[int, ...]
) -> tuple[Integers, NDArray[np.bool_]]:
    """[...] how many blocks of sizes [..., Bk] have tokens, or the fewest of an essential stratum, and if one is alone.

    A stratum of one block says nothing about how much its blocks vary.
    """
    every = (sizes > 0).sum(-1)
    if strata is None:
        return np.broadcast_to(every, shape), np.zeros(shape, bool)
    kinds = sorted({0, *strata.tolist()})
    by_stratum = np.stack([(sizes[..., strata == kind] > 0).sum(-1) for kind in kinds])
    needed = by_stratum[[kinds.index(kind) for kind in essential]].min(0) if essential else every
    return np.broadcast_to(needed, shape), np.broadcast_to((by_stratum == 1).any(0), shape)


def _words_of_few(blocks: Integers, prefix: str, folded: bool) -> NDArray[np.object_]:
    """[...] why there is no interval."""
    unit = " block{} of documents" if folded else " document{}"
    numbers, place = np.unique(blocks, return_inverse=True)
    units = [unit.format("" if number == 1 else "s") for number in numbers]
    words = [f"{prefix}{k}{of}: no interval below {MIN_DOCUMENTS}" for k, of in zip(numbers, units, strict=True)]
    return np.array(words, object)[place.reshape(blocks.shape)]


def _words_of_interval(found: Jackknife, about: About) -> NDArray[np.object_]:
    """[...] what scope says about each interval."""
    plain = ABOUT_VALUE if about == "value" else ABOUT_CORRECTED
    wide = [f"{plain}; t {quantile:.3g}: few documents have most tokens" for quantile in found.quantile.flat]
    return np.where(found.quantile > WIDE_QUANTILE, np.array(wide, object).reshape(found.quantile.shape), plain)


def leave_one_out(
    formula: Callable[..., Floats],
    sums: Sequence[NDArray[Any]],
    sizes: Integers,
    *,
    folded: bool,
    bounds: Bounds = ANY,
    axis: int | None = None,
    about: About = "corrected",
    events: ArrayLike | None = None,
    left_out: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Return a formula of sums with its interval.

    Args:
        formula: of sums over blocks, [..., tail] each; it must accept further axes before the tail.
        sums: [..., Bk, tail] each, by block.
        sizes, folded, bounds, axis, about, events, left_out: as in `estimate`.
    """
    axis = sizes.ndim - 1 if axis is None else axis
    totals = [part.sum(axis) for part in sums]
    deleted = formula(*(np.expand_dims(total, axis) - part for total, part in zip(totals, sums, strict=True)))
    of_value = formula(*totals)
    how: dict[str, Any] = {"bounds": bounds, "axis": axis, "about": about, "events": events, "left_out": left_out}
    return estimate(of_value, deleted, sizes, folded=folded, **how)


def recount(
    formula: Callable[[Integers], ArrayLike],
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
        formula: a value, or values [...], of the counts of any tokens; it must keep the shares of strata fixed.
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
    """Return a value without an interval, which would be wrong; the scope given to `estimate_rows` must say why."""
    value = np.asarray(value)
    none = np.full(value.shape, np.nan)
    return Estimate(value, none, none, none, np.full(value.shape, "", object))


def estimate_rows(
    keys: Mapping[str, Any],
    metric: str | Sequence[str],
    estimate: Estimate,
    null: ArrayLike,
    n: ArrayLike,
    scope: ArrayLike,
    empty: str = "no tokens",
) -> pd.DataFrame:
    """Return rows of one metric with intervals; where there is none, the scope says why.

    Args:
        keys: of the rows, broadcast against the value.
        metric: its name, or names along the last axis of the value.
        estimate: value and interval.
        null: what chance gives.
        n: tokens; its axes are the first of the value's.
        scope: what the value is about.
        empty: why n may be 0.
    """
    shape = estimate.value.shape
    tokens = np.where(np.isnan(estimate.value), 0, _with_trailing_axes(n, shape))
    scopes = _joined(scope, np.where(tokens == 0, f"not enough data: {empty}", estimate.words))
    numbers = (estimate.value, estimate.low, estimate.high)
    return rows(keys, metric, *numbers, corrected=estimate.corrected, null=null, n=tokens, scope=scopes)


def _joined(scope: ArrayLike, words: NDArray[np.object_]) -> NDArray[np.object_]:
    """[...] scope and words, each pair once."""
    pairs = np.broadcast_arrays(np.asarray(scope, object), words)
    texts = {pair: "; ".join(filter(None, pair)) for pair in {*zip(*(part.flat for part in pairs), strict=True)}}
    joined = [texts[pair] for pair in zip(*(part.flat for part in pairs), strict=True)]
    return np.array(joined, object).reshape(pairs[0].shape)


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
    events: NDArray[Any] | None = None
    """[L, G, Bk, tail] as in `estimate`."""
    about: About = "corrected"
    left_out: NDArray[np.bool_] | None = None
    """[L, G, Bk, tail] as in `estimate`."""

    def rows(self, keys: Mapping[str, Any], sizes: NDArray[Any], *, folded: bool) -> pd.DataFrame:
        """Return the metric's rows.

        Args:
            keys: of the rows.
            sizes: [L, G, Bk, tail] tokens per block that the value of a row rests on, the tail possibly of length 1.
            folded: whether a block may hold several documents.
        """
        how: dict[str, Any] = {"bounds": self.bounds, "about": self.about, "events": self.events}
        how["left_out"] = self.left_out
        estimate = leave_one_out(self.formula, self.sums, sizes, folded=folded, axis=2, **how)
        return estimate_rows(keys, self.metric, estimate, self.null, self.n, self.scope, self.empty)
