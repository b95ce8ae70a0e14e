"""Means over windows or over documents, each alike, however many tokens it has."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import with_all
from mixtral_probe.tables.frame import missing_rows
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Bounds, estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import OLD_STATISTICS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Mean(NamedTuple):
    """A metric that is a mean over windows or documents, and what its rows are about."""

    metric: str
    unit: Literal["windows", "documents"]
    values: str
    """Which of the `ValueSums` it is the mean of."""
    null: str | float
    """Which of them is what chance gives, or its value."""
    bounds: Bounds
    scope: str = ""
    """What is added to it."""


def mean_rows(sums: GroupedSums, mean: Mean, keys: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return the rows of a mean.

    Args:
        sums: of the statistics.
        mean: the metric.
        keys: of the rows; by default layer and group.
    """
    stats, keys = sums.stats, sums.keys() if keys is None else keys
    parts = stats.value_sums.map(lambda array: with_all(array, stats.by)).arrays()
    if mean.values not in parts:
        shape = np.broadcast_shapes(*(np.shape(key) for key in keys.values()))
        return missing_rows(keys, mean.metric, shape, OLD_STATISTICS)
    total, number = parts[mean.values], parts[mean.unit]  # [L, G, Bk, tail], [L, G, Bk]
    counts = np.broadcast_to(number.reshape(*number.shape, *(1,) * (total.ndim - number.ndim)), total.shape)
    estimate = leave_one_out(metrics.ratio, (total, counts), number, folded=stats.folded, bounds=mean.bounds)
    null = metrics.ratio(parts[mean.null].sum(2), number.sum(2)) if isinstance(mean.null, str) else mean.null
    scope = f"one layer; {sums.tokens_scope}; mean over {mean.unit}, each alike{mean.scope}"
    return estimate_rows(keys, mean.metric, estimate, null, sums.total.tokens, scope)
