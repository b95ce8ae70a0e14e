"""Means over documents, each alike; where the statistics hold more documents than blocks, over blocks of documents."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Sums, with_all
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Bounds, estimate_rows, leave_one_out

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def document_mean_rows(
    sums: GroupedSums,
    metric: str,
    statistic: Callable[[Sums], Floats],
    null: Any,
    bounds: Bounds,
    keys: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Return rows of a statistic of each document [L, G, Bk, tail], averaged over documents.

    Args:
        sums: of the statistics.
        metric: its name.
        statistic: of the sums of one document.
        null: what chance gives.
        bounds: the range of the metric.
        keys: of the rows; by default layer and group.
    """
    values = statistic(sums.stats.sums.map(lambda array: with_all(array, sums.stats.by)))
    present = sums.sizes > 0
    counted = present.reshape(*present.shape, *(1,) * (values.ndim - present.ndim))
    estimate = leave_one_out(
        metrics.ratio,
        (np.where(counted, values, 0.0), np.broadcast_to(counted, values.shape).astype(np.int64)),
        present.astype(np.int64),
        folded=sums.stats.folded,
        bounds=bounds,
    )
    unit = "each of 64 blocks of documents" if sums.stats.folded else "each document"
    scope = f"one layer; {sums.tokens_scope}; mean over documents, {unit} alike"
    return estimate_rows(sums.keys() if keys is None else keys, metric, estimate, null, sums.total.tokens, scope)


def uniform_mean(formula: Callable[..., Floats], tokens: Integers, experts: int, chosen: int) -> Floats:
    """[...] the mean of a metric of counts under uniform routing of so many tokens."""
    sizes, place = np.unique(tokens, return_inverse=True)
    means = [metrics.simulated_null(formula, int(size), experts, chosen)[0] for size in sizes]
    return np.array(means)[place].reshape(tokens.shape)
