"""Rows of one metric of the losses, by layer or over all layers."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mixtral_probe.tables.frame import missing_rows
from mixtral_probe.tables.grouped import GroupedSums, Statistic
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import NO_LOGITS, PERMUTED_EXPERTS
from mixtral_probe.tables.spec import Metric


class LossMetric(NamedTuple):
    """One metric of the losses and what its rows are about."""

    name: str
    statistic: Statistic
    null: Statistic | None
    """Its mean under independent routing; None where that says nothing."""
    balanced: float
    scope: str
    rows: Literal["each layer", "all layers"] = "each layer"
    curvature: float = 0.0
    """As in `metrics.jackknife`."""


def loss_rows(
    sums: GroupedSums, metric: LossMetric, declared: Metric, axes: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Return the rows of a metric; over all layers the layer is empty.

    Args:
        sums: of the statistics.
        metric: the metric.
        declared: its declaration, which has its range.
        axes: further keys, with the values of each.
    """
    axes = axes or {}
    keys, tokens, sizes = sums.keys(**axes), sums.total.tokens, sums.sizes
    if metric.rows == "all layers":
        # A token counts once, although every layer routes it.
        keys, tokens, sizes = keys | {"layer": np.nan}, tokens.max(0), sizes.max(0)
    if sums.total.probability is None:
        return missing_rows(keys, metric.name, (*tokens.shape, *map(len, axes.values())), NO_LOGITS)
    estimate = sums.estimate(metric.statistic, bounds=declared.bounds, sizes=sizes, curvature=metric.curvature)
    null = np.nan if metric.null is None else metric.null(sums.total)
    about = f"{metric.scope}; {sums.tokens_scope}" + ("" if metric.null is None else f"; {PERMUTED_EXPERTS}")
    return estimate_rows(keys, metric.name, estimate, null, tokens, about)
