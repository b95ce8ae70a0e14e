"""How unevenly a layer uses its experts: `balance`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.phrases import NOT_SMOOTH, POSITIVE, SHARE, UNIFORM
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Balance:
    """A metric of one layer's counts: its formula, range, and whether it is smooth, so that it has an interval."""

    formula: Callable[[ArrayLike], Floats]
    smooth: bool
    high: float
    what: str


def balance_metrics(experts: int, chosen: int) -> dict[str, Balance]:
    """Return the metrics of the table `balance` for E experts of which K are chosen, by name."""
    most = experts / chosen - 1
    return {
        "max_violation": Balance(metrics.max_violation, False, most, "E max f - 1"),
        "min_violation": Balance(metrics.min_violation, False, 1, "1 - E min f"),
        "cv_squared": Balance(metrics.cv_squared, True, most, "population variance / mean^2"),
        "gini": Balance(metrics.gini, False, 1 - chosen / experts, "Gini of the loads"),
        "normalized_entropy": Balance(metrics.normalized_entropy, True, 1, "H(f) / ln E"),
        "effective_experts": Balance(metrics.effective_experts, True, experts, "exp H(f)"),
        "dead_experts": Balance(metrics.dead_experts, False, experts - chosen, "experts never chosen"),
    }


@of_stats
def balance(stats: RoutingStats) -> pd.DataFrame:
    """Return how unevenly the experts are used, one number per layer, group and metric.

    Columns: layer, group, metric, value, corrected, low, high, null, n, scope.
    Only the smooth metrics have intervals; the scope of the others has the 95 % point of uniform routing.
    """
    sums = GroupedSums.of(stats)
    formulas = balance_metrics(stats.num_experts, stats.num_experts_per_tok)
    return tidy([_balance_rows(sums, name, metric) for name, metric in formulas.items()], SPEC)


def _balance_rows(sums: GroupedSums, name: str, metric: Balance) -> pd.DataFrame:
    tokens, counts = sums.total.tokens, sums.total.counts
    scope = f"one layer; {sums.tokens_scope}; {metric.what}"
    null, most = _uniform(name, metric, sums.total)
    if metric.smooth:
        estimate = sums.estimate(lambda sums: metric.formula(sums.counts), bounds=(0, metric.high))
        return estimate_rows(sums.keys(), name, estimate, null, tokens, scope)
    points = [f"{scope}; {NOT_SMOOTH}; 95 % of uniform routings <= {point:.4g}" for point in most.flat]
    scopes = np.where(
        tokens > 0, np.array(points, dtype=object).reshape(tokens.shape), f"{scope}; not enough data: no tokens"
    )
    return rows(sums.keys(), name, metric.formula(counts), null=null, n=tokens, scope=scopes)


def _uniform(name: str, metric: Balance, sums: Sums) -> tuple[Floats, Floats]:
    """[L, G] mean and 95 % point of the metric under uniform top-K routing of the same number of tokens."""
    tokens, counts = sums.tokens, sums.counts
    experts, chosen = counts.shape[-1], metrics.ratio(counts.sum(-1), tokens)
    # Most layers have the same tokens: each size is simulated once.
    sizes, place = np.unique(np.stack([tokens.ravel(), np.nan_to_num(chosen).ravel()]), axis=1, return_inverse=True)
    pairs = [metrics.simulated_null(metric.formula, int(t), experts, float(k)) for t, k in sizes.T]
    mean, most = np.array(pairs).reshape(-1, 2).T[:, place.ravel()].reshape(2, *tokens.shape)
    exact = {"cv_squared": metrics.expected_cv_squared, "dead_experts": metrics.expected_dead_experts}
    return (exact[name](sums.choices, experts) if name in exact else mean), most


SPEC = TableSpec(
    function=balance,
    source="stats",
    description="How unevenly a layer uses its experts.",
    keys=("layer", "group"),
    metrics={
        "max_violation": Metric(
            "E max f - 1, in [0, E/K - 1]; no interval", "max violation", bounds=POSITIVE, null=UNIFORM
        ),
        "min_violation": Metric("1 - E min f, in [0, 1]; no interval", "min violation", bounds=SHARE, null=UNIFORM),
        "cv_squared": Metric(
            "population variance of the loads / mean squared, in [0, E/K - 1]", "CV²", bounds=POSITIVE, null=UNIFORM
        ),
        "gini": Metric(
            "Gini coefficient of the loads, in [0, 1 - K/E]; no interval: near balance it would cover too rarely",
            "Gini",
            bounds=SHARE,
            null=UNIFORM,
        ),
        "normalized_entropy": Metric("H(f) / ln E, in [ln K / ln E, 1]", "normalised entropy", ".4g", SHARE, UNIFORM),
        "effective_experts": Metric("exp H(f), in [K, E]", "effective experts", bounds=POSITIVE, null=UNIFORM),
        "dead_experts": Metric("experts never chosen; no interval", "dead experts", bounds=POSITIVE, null=UNIFORM),
    },
    figures=(Drawing("balance"),),
    narrows=True,
)
