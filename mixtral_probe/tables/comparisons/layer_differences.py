"""By how much two layers differ on the same tokens: `layer_differences`."""

from itertools import combinations

import numpy as np
import pandas as pd

from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.comparisons.differences import Sample, paired
from mixtral_probe.tables.comparisons.statistics import LAYER_METRICS, difference_metrics, layer_statistics
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.spec import Drawing, TableSpec


@of_stats
def layer_differences(stats: RoutingStats) -> pd.DataFrame:
    """Return the differences between any two layers on the same documents, with the interval of a difference.

    A document is left out of both layers at once, so what makes both of them larger or smaller with the text cancels.

    Columns: layer, other_layer, group, metric, value, corrected, low, high, null, n, scope. Each pair has one row, the
    lower layer as `layer`. With one layer the table is empty and `attrs["note"]` says why.
    """
    if len(stats.layers) < 2:
        return empty(SPEC, "a model with two layers of experts is needed")
    sums, (one, other) = GroupedSums.of(stats), np.array([*combinations(range(len(stats.layers)), 2)], np.intp).T
    every = stats.sums.map(lambda array: with_all(array, stats.by))
    first, second = Sample(every.map(lambda sums: sums[one]), 2), Sample(every.map(lambda sums: sums[other]), 2)
    layers = np.array(stats.layers)[:, None]
    keys = {"layer": layers[one], "other_layer": layers[other], "group": np.array(sums.groups, object)}
    scope, n = (
        f"two layers; {sums.tokens_scope}; one of {len(one):,} pairs",
        np.maximum(*(part.total.tokens for part in (first, second))),
    )
    parts = []
    for name, compared in layer_statistics(stats).items():
        metric = f"{name}_difference"
        found = paired(compared, first, second, SPEC.metrics[metric].bounds, folded=stats.folded)
        parts.append(estimate_rows(keys, metric, found, 0.0, n, scope))
    return tidy(parts, SPEC)


SPEC = TableSpec(
    function=layer_differences,
    source="stats",
    description="By how much any two layers differ on the same documents, with the interval of the difference.",
    keys=("layer", "other_layer", "group"),
    metrics=difference_metrics("layer", "other_layer", LAYER_METRICS),
    figures=(Drawing("layer_differences"),),
    narrows=True,
)
