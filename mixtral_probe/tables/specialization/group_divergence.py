"""How differently two groups of documents use the experts of a layer: `group_divergence`."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import empty, rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.leave_one_out import Estimate, estimate, estimate_rows, without_interval
from mixtral_probe.tables.phrases import NOT_SMOOTH, SHARE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.label_shuffles import (
    LABELS_SHUFFLED,
    TESTS,
    Documents,
    LabelTest,
    chance,
    excess,
    shuffled_values,
)

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_ONE_GROUP = "two groups are needed: RoutingStats.from_trace(trace, by=…)"
_SHUFFLED = "null: labels shuffled among the documents of the two, at the spread of documents within each"
_UNCHANGED = "shuffled labels change nothing"


class _Pairs(NamedTuple):
    """Every pair of groups, and what is counted of the two."""

    one: NDArray[np.intp]
    """[pairs] the number of the first group."""
    other: NDArray[np.intp]
    """[pairs] that of the second."""
    counts: tuple[Counts, Counts]
    """[L, pairs, Bk, E] choices of either group, by block of documents."""
    sizes: tuple[Counts, Counts]
    """[L, pairs, Bk] its tokens."""

    @classmethod
    def of(cls, stats: RoutingStats) -> "_Pairs":
        one, other = np.array([*combinations(range(len(stats.groups)), 2)], np.intp).reshape(-1, 2).T
        counts, tokens = stats.sums.counts, stats.sums.tokens
        return cls(one, other, (counts[:, one], counts[:, other]), (tokens[:, one], tokens[:, other]))

    @property
    def loads(self) -> tuple[Counts, Counts]:
        """[L, pairs, E] choices of either group."""
        one, other = self.counts
        return one.sum(2), other.sum(2)

    @property
    def tokens(self) -> Counts:
        """[L, pairs] tokens of both."""
        one, other = self.sizes
        return one.sum(2) + other.sum(2)

    @property
    def both(self) -> NDArray[np.bool_]:
        """[L, pairs] whether both groups have tokens."""
        one, other = self.sizes
        return (one.sum(2) > 0) & (other.sum(2) > 0)


@of_stats
def group_divergence(stats: RoutingStats) -> pd.DataFrame:
    """Return how far apart any two groups are in their use of a layer's experts.

    The two groups are two samples: the documents of each are left out one at a time, and the two corrections and
    variances are added (the strata of `metrics.jackknife`).

    Chance is what labels shuffled among the documents of the two groups give, 199 times. What a shuffle gives is
    divided by what the spread of the documents within its two groups gives (`metrics.spread_divergence_bits`) and
    multiplied by that of the real groups, so that groups of few, short or bundled documents have their own chance. The
    p-value is that of the divergence in these parts; the other metrics ask the same of the same loads.

    Columns: layer, group, other_group, metric, value, corrected, low, high, null, n, scope. Each pair has one row, the
    first in the alphabet as `group`. n counts the tokens of both. With fewer than two groups the table is empty and
    `attrs["note"]` says why.
    """
    if len(stats.groups) < 2:
        return empty(SPEC, _ONE_GROUP)
    pairs, shuffles, names = _Pairs.of(stats), _Shuffles.of(stats), np.array(stats.groups, dtype=object)
    keys = {"layer": np.array(stats.layers)[:, None], "group": names[pairs.one], "other_group": names[pairs.other]}
    scope = f"one layer; {tokens_scope(stats, stats.include_special)}; loads of two groups, each divided by its sum"
    nulls = shuffles.nulls
    parts = [_divergence_rows(stats, pairs, metric, nulls[metric.name], keys, scope) for metric in _DIVERGENCES]
    n = np.where(pairs.both, pairs.tokens, 0)
    tests = shuffles.test.rows(keys, n, f"{scope}; Jensen-Shannon divergence", folded=stats.folded)
    return tidy([*parts, _jaccard_rows(pairs, keys, scope), *tests], SPEC)


class _Divergence(NamedTuple):
    """A metric of two loads that shuffled labels have too."""

    name: str
    formula: Callable[[ArrayLike, ArrayLike], Floats]
    alike: float
    """Its value for equal loads."""
    unit: str
    smooth: bool = True
    """Whether it has an interval: near even loads a ratio of two small numbers holds the truth too rarely."""


_DIVERGENCES = (
    _Divergence("js_divergence_bits", metrics.js_divergence_bits, 0.0, "bits"),
    _Divergence("normalized_js_divergence", metrics.normalized_js_divergence, 0.0, "share of what is possible", False),
    _Divergence("load_cosine", metrics.load_cosine, 1.0, "cosine"),
)


class _Shuffles(NamedTuple):
    """What shuffled labels give for every pair of groups."""

    nulls: dict[str, Floats]
    """By metric, [L, pairs]."""
    test: LabelTest
    """[L, pairs] of the divergence."""

    @classmethod
    def of(cls, stats: RoutingStats) -> "_Shuffles":
        """Return the shuffles of statistics with two groups or more; a pair's do not depend on other groups."""
        pairs = [_shuffled_pair(Documents.of(stats, pair)) for pair in combinations(range(len(stats.groups)), 2)]
        nulls = {metric.name: np.stack([part.nulls[metric.name] for part in pairs], -1) for metric in _DIVERGENCES}
        values = np.stack([part.values for part in pairs], -1)
        arrangements = np.stack([part.arrangements for part in pairs], -1)
        return cls(nulls, LabelTest.of(values, arrangements, "all layers and pairs of groups"))


class _ShuffledPair(NamedTuple):
    """What shuffled labels give for two groups."""

    nulls: dict[str, Floats]
    """By metric, [L]; NaN where shuffles change nothing."""
    values: Floats
    """[1 + DRAWS, L] the divergence in parts of that of the spread within the groups."""
    arrangements: Counts
    """[L]"""


def _shuffled_pair(documents: Documents) -> _ShuffledPair:
    formulas = [partial(_from_alike, metric) for metric in _DIVERGENCES]
    spread, *values = shuffled_values(documents, metrics.spread_divergence_bits, *formulas)
    arrangements = documents.arrangements()
    nulls = {
        metric.name: np.where(arrangements > 1, abs(metric.alike - chance(value, spread)), np.nan)
        for metric, value in zip(_DIVERGENCES, values, strict=True)
    }
    return _ShuffledPair(nulls, excess(values[0], spread), arrangements)


def _from_alike(metric: _Divergence, loads: metrics.GroupLoads) -> Floats:
    """[...] how far the metric of two groups is from its value for equal loads."""
    return np.abs(metric.formula(loads.counts[..., 0, :], loads.counts[..., 1, :]) - metric.alike)


def _divergence_rows(
    stats: RoutingStats, pairs: _Pairs, metric: _Divergence, null: Floats, keys: dict[str, Any], scope: str
) -> pd.DataFrame:
    why = "a group without tokens, or both quite even"
    scope = f"{scope}; {metric.unit}" + ("" if metric.smooth else f"; {NOT_SMOOTH} near even loads")
    scopes = np.where(np.isnan(null), f"{scope}; no null: {_UNCHANGED}", f"{scope}; {_SHUFFLED}")
    return estimate_rows(keys, metric.name, _estimate(pairs, metric, stats.folded), null, pairs.tokens, scopes, why)


def _estimate(pairs: _Pairs, metric: _Divergence, folded: bool) -> Estimate:
    """[L, pairs] the metric; each block of documents is left out of its group only."""
    one, other = pairs.loads
    if not metric.smooth:
        return without_interval(metric.formula(one, other))
    less_one, less_other = (load[:, :, None] - counts for load, counts in zip((one, other), pairs.counts, strict=True))
    deleted = metric.formula(less_one, other[:, :, None]), metric.formula(one[:, :, None], less_other)
    return estimate(
        metric.formula(one, other),
        np.concatenate(deleted, axis=-1),
        np.concatenate(pairs.sizes, axis=-1),
        folded=folded,
        bounds=SPEC.metrics[metric.name].bounds,
        strata=np.repeat([0, 1], pairs.sizes[0].shape[-1]),
        essential=(0, 1),
        quantiles="own",
    )


def _jaccard_rows(pairs: _Pairs, keys: dict[str, Any], scope: str) -> pd.DataFrame:
    value = metrics.top_p_jaccard(*pairs.loads)
    n = np.where(np.isnan(value), 0, pairs.tokens)
    why = np.where(n > 0, NOT_SMOOTH, "not enough data: no tokens in one of the groups").astype(object)
    scopes = f"{scope}; experts that hold half of each load; null: the same experts; " + why
    return rows(keys, "top_half_jaccard", value, null=1.0, n=n, scope=scopes)


SPEC = TableSpec(
    function=group_divergence,
    source="stats",
    description=("How far apart any two groups are in their use of the experts; empty with fewer than two groups."),
    keys=("layer", "group", "other_group"),
    metrics={
        "js_divergence_bits": Metric(
            "Jensen-Shannon divergence of the two groups' loads, bits, in [0, 1]; null: labels shuffled",
            "Jensen-Shannon divergence, bits",
            bounds=SHARE,
            null=LABELS_SHUFFLED,
        ),
        "normalized_js_divergence": Metric(
            "the same / (log E - mean entropy of the two), in [0, 1]; null: labels shuffled",
            "divergence / what is possible",
            bounds=SHARE,
            null=LABELS_SHUFFLED,
        ),
        "load_cosine": Metric(
            "cosine of the two groups' loads, 1 when alike; null: labels shuffled",
            "cosine of the loads",
            ".4g",
            SHARE,
            LABELS_SHUFFLED,
        ),
        "top_half_jaccard": Metric(
            "of the fewest experts that hold half of each group's load, those in common / those in either",
            "busiest experts in common",
            ".2g",
            SHARE,
            "the same experts",
        ),
    }
    | TESTS,
    figures=(Drawing("group_divergence"),),
    narrows=True,
)
