"""By how much two selections of a trace differ: `slice_differences`."""

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.comparisons.differences import Sample, independent, paired
from mixtral_probe.tables.comparisons.statistics import (
    EXPERT_METRICS,
    LAYER_METRICS,
    Compared,
    difference_metrics,
    expert_statistics,
    layer_statistics,
)
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.leave_one_out import Estimate, estimate_rows
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import TableSpec


@of_stats
def slice_differences(one: RoutingStats, other: RoutingStats) -> pd.DataFrame:
    """Return the differences between two slices of a trace, such as digits and words, with the interval of each.

    Documents that have tokens in both slices are left out of both at once (a paired difference). Where no document has,
    the two are two samples (Welch 1947).

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. Rows without an expert are about
    the layer. n counts the tokens of both.

    Args:
        one: the statistics of the first slice, `RoutingStats.from_trace(trace, where="token.is_digit")`.
        other: those of the second, which the first is taken from.

    Raises:
        InputError: the two are of models of different shape, or differ in what was recorded.
    """
    _check(one, other)
    stats, samples = one.pooled(), [Sample(part.sums, 2) for part in one.pooled().aligned(other.pooled())]
    common = np.logical_and(*(sample.by_block.tokens.sum((0, 1)) > 0 for sample in samples)).any()
    folded, n = one.folded or other.folded, samples[0].total.tokens + samples[1].total.tokens
    how = "documents with tokens in both are paired" if common else "two samples of documents"
    scope = f"one layer; {_words(other)} less {_words(one)}; {how}"

    def difference(name: str, compared: Compared) -> Estimate:
        of_samples = paired if common else independent
        return of_samples(compared, samples[0], samples[1], SPEC.metrics[name].bounds, folded=folded)

    parts, layers = [], np.array(stats.layers)
    for tail, statistics in (((), layer_statistics(stats)), ((1,), expert_statistics(stats))):
        keys = {"layer": layers.reshape(-1, 1, *tail), "group": ALL}
        keys |= {"expert": np.arange(stats.num_experts)} if tail else {}
        for name, compared in statistics.items():
            metric = f"{name}_difference"
            parts.append(estimate_rows(keys, metric, difference(metric, compared), 0.0, n, scope))
    return tidy(parts, SPEC)


def _words(stats: RoutingStats) -> str:
    return f"({tokens_scope(stats, stats.include_special)})"


def _check(one: RoutingStats, other: RoutingStats) -> None:
    shapes = [(part.layers, part.num_experts, part.num_experts_per_tok) for part in (one, other)]
    if shapes[0] != shapes[1]:
        raise InputError(f"slices are compared of models of one shape, got {shapes[0]} and {shapes[1]} (layers, E, K)")
    if (mine := {*one.sums.arrays()}) != (theirs := {*other.sums.arrays()}):
        raise InputError(f"slices are compared where the same was recorded, got {mine ^ theirs} in one of them only")


SPEC = TableSpec(
    function=slice_differences,
    source="part",
    description="By how much two selections of a trace differ, with the interval of the difference.",
    keys=("layer", "group", "expert"),
    metrics=difference_metrics("first slice", "second slice", LAYER_METRICS, EXPERT_METRICS),
    figures=(),
    narrows=False,
)
