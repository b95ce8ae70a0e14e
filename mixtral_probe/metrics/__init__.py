"""Routing metrics: formulas on plain arrays, one value each, with source, range and unit."""

from mixtral_probe.metrics.histograms import histogram_quantile
from mixtral_probe.metrics.load import (
    cv_squared,
    dead_experts,
    effective_experts,
    gini,
    max_violation,
    min_violation,
    normalized_entropy,
    ratio,
    relative_load,
    selection_frequency,
    share,
)
from mixtral_probe.metrics.losses import (
    load_balancing_contribution,
    load_balancing_excess,
    load_balancing_loss,
    pooling_gap,
    token_balance_loss,
    weighted_mean,
)
from mixtral_probe.metrics.nulls import (
    expected_cv_squared,
    expected_dead_experts,
    simulated_null,
    uniform_counts,
)
from mixtral_probe.metrics.resampling import jackknife_interval

__all__ = [
    "cv_squared",
    "dead_experts",
    "effective_experts",
    "expected_cv_squared",
    "expected_dead_experts",
    "gini",
    "histogram_quantile",
    "jackknife_interval",
    "load_balancing_contribution",
    "load_balancing_excess",
    "load_balancing_loss",
    "max_violation",
    "min_violation",
    "normalized_entropy",
    "pooling_gap",
    "ratio",
    "relative_load",
    "selection_frequency",
    "share",
    "simulated_null",
    "token_balance_loss",
    "uniform_counts",
    "weighted_mean",
]
