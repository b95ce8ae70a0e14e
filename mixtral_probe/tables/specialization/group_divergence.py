"""How differently two groups of documents use the experts of a layer: `group_divergence`."""

from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import empty, rows, tidy
from mixtral_probe.tables.leave_one_out import Estimate, estimate, estimate_rows
from mixtral_probe.tables.phrases import NOT_SMOOTH, SHARE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_ONE_GROUP = "two groups are needed: RoutingStats.from_trace(trace, by=…)"
_SAMPLING = "sampling alone"


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


def group_divergence(stats: RoutingStats) -> pd.DataFrame:
    """Return how far apart any two groups are in their use of a layer's experts.

    The two groups are two samples: the documents of each are left out one at a time, and the two corrections and
    variances are added (the strata of `metrics.jackknife`).

    Columns: layer, group, other_group, metric, value, corrected, low, high, null, n, scope. Each pair has one row, the
    first in the alphabet as `group`. n counts the tokens of both. With fewer than two groups the table is empty and
    `attrs["note"]` says why.
    """
    if len(stats.groups) < 2:
        return empty(SPEC, _ONE_GROUP)
    pairs, names = _Pairs.of(stats), np.array(stats.groups, dtype=object)
    keys = {"layer": np.array(stats.layers)[:, None], "group": names[pairs.one], "other_group": names[pairs.other]}
    scope = f"one layer; {tokens_scope(stats, stats.include_special)}; loads of two groups, each divided by its sum; "
    parts = [_smooth_rows(stats, pairs, smooth, keys, scope) for smooth in _SMOOTH]
    return tidy([*parts, _jaccard_rows(pairs, keys, scope)], SPEC)


class _Smooth(NamedTuple):
    """A metric of two loads that has an interval, and its value by sampling alone."""

    name: str
    formula: Callable[[Counts, Counts], Floats]
    null: Callable[..., Floats]
    unit: str


_SMOOTH = (
    _Smooth("js_divergence_bits", metrics.js_divergence_bits, metrics.expected_js_divergence_bits, "bits"),
    _Smooth(
        "normalized_js_divergence",
        metrics.normalized_js_divergence,
        metrics.expected_normalized_js_divergence,
        "share of what is possible",
    ),
    _Smooth("load_cosine", metrics.load_cosine, metrics.expected_load_cosine, "cosine"),
)


def _smooth_rows(stats: RoutingStats, pairs: _Pairs, smooth: _Smooth, keys: dict[str, Any], scope: str) -> pd.DataFrame:
    null = smooth.null(*pairs.loads, chosen=stats.num_experts_per_tok)
    why = "a group without tokens, or both quite even"
    estimated = _estimate(pairs, smooth, stats.folded)
    return estimate_rows(keys, smooth.name, estimated, null, pairs.tokens, scope + smooth.unit, why)


def _estimate(pairs: _Pairs, smooth: _Smooth, folded: bool) -> Estimate:
    """[L, pairs] the metric; each block of documents is left out of its group only."""
    one, other = pairs.loads
    less_one, less_other = (load[:, :, None] - counts for load, counts in zip((one, other), pairs.counts, strict=True))
    deleted = smooth.formula(less_one, other[:, :, None]), smooth.formula(one[:, :, None], less_other)
    return estimate(
        smooth.formula(one, other),
        np.concatenate(deleted, axis=-1),
        np.concatenate(pairs.sizes, axis=-1),
        folded=folded,
        bounds=SPEC.metrics[smooth.name].bounds,
        strata=np.repeat([0, 1], pairs.sizes[0].shape[-1]),
        essential=(0, 1),
        quantiles="own",
    )


def _jaccard_rows(pairs: _Pairs, keys: dict[str, Any], scope: str) -> pd.DataFrame:
    value = metrics.top_p_jaccard(*pairs.loads)
    n = np.where(np.isnan(value), 0, pairs.tokens)
    why = np.where(n > 0, NOT_SMOOTH, "not enough data: no tokens in one of the groups").astype(object)
    scopes = f"{scope}experts that hold half of each load; null: the same experts; " + why
    return rows(keys, "top_half_jaccard", value, null=1.0, n=n, scope=scopes)


SPEC = TableSpec(
    function=group_divergence,
    source="stats",
    description=("How far apart any two groups are in their use of the experts; empty with fewer than two groups."),
    keys=("layer", "group", "other_group"),
    metrics={
        "js_divergence_bits": Metric(
            "Jensen-Shannon divergence of the two groups' loads, bits, in [0, 1]; null: sampling alone",
            "Jensen-Shannon divergence, bits",
            bounds=SHARE,
            null=_SAMPLING,
        ),
        "normalized_js_divergence": Metric(
            "the same / (log E - mean entropy of the two), in [0, 1]; null: sampling alone",
            "divergence / what is possible",
            bounds=SHARE,
            null=_SAMPLING,
        ),
        "load_cosine": Metric(
            "cosine of the two groups' loads, 1 when alike; null: sampling alone",
            "cosine of the loads",
            ".4g",
            SHARE,
            _SAMPLING,
        ),
        "top_half_jaccard": Metric(
            "of the fewest experts that hold half of each group's load, those in common / those in either",
            "busiest experts in common",
            ".2g",
            SHARE,
            "the same experts",
        ),
    },
    figures=(Drawing("group_divergence"),),
    narrows=True,
)
