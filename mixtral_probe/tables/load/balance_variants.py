"""Balance in the other forms that papers give it: `balance_variants`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Bounds, estimate_rows
from mixtral_probe.tables.load.document_means import document_mean_rows, uniform_mean
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import BALANCED, NO_GATES, NO_LOGITS, POSITIVE, UNIFORM
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]


def balance_variants(stats: RoutingStats) -> pd.DataFrame:
    """Return balance in other published forms than those of `balance` and `balance_loss`, per layer and group.

    Columns: layer, group, metric, value, corrected, low, high, null, n, scope.
    """
    sums, experts, chosen = GroupedSums.of(stats), stats.num_experts, stats.num_experts_per_tok
    even = uniform_mean(metrics.inverse_simpson, sums.total.tokens, experts, chosen)
    parts = [
        _smooth(sums, "inverse_simpson", lambda sums: metrics.inverse_simpson(sums.counts), even, (0, experts)),
        _chi_squared(sums),
        document_mean_rows(sums, "max_violation_batch", _violation, _mean_null(sums), (0, experts / chosen - 1)),
        _importance_rows(sums),
    ]
    return tidy([*parts, *_loss_rows(sums)], SPEC)


def _importance_rows(sums: GroupedSums) -> pd.DataFrame:
    tokens, experts, chosen = sums.total.tokens, sums.stats.num_experts, sums.stats.num_experts_per_tok
    if sums.total.gate is None:
        return missing_rows(sums.keys(), "importance_cv_squared", tokens.shape, NO_GATES)
    null = metrics.expected_cv_squared(tokens, experts, chosen)
    return _smooth(sums, "importance_cv_squared", _importance, null, (0, experts - 1))


def _loss_rows(sums: GroupedSums) -> list[pd.DataFrame]:
    experts, chosen = sums.stats.num_experts, sums.stats.num_experts_per_tok
    gshard, sequence = "load_balancing_loss_gshard", "load_balancing_loss_sequence"
    if sums.total.probability is None:
        return [missing_rows(sums.keys(), name, sums.total.tokens.shape, NO_LOGITS) for name in (gshard, sequence)]
    parts = LossParts(chosen)
    return [
        _smooth(sums, gshard, lambda sums: _gshard(parts, sums), 1 / experts**2, (0, 1 / experts)),
        document_mean_rows(sums, sequence, parts.each_layer, 1.0, (0, experts / chosen)),
    ]


def _importance(sums: Sums) -> Floats:
    assert sums.gate is not None
    return metrics.cv_squared(sums.gate)


def _violation(sums: Sums) -> Floats:
    return metrics.max_violation(sums.counts)


def _gshard(parts: LossParts, sums: Sums) -> Floats:
    first = metrics.ratio(sums.load[..., 0, :], sums.tokens[..., None])
    return metrics.gshard_loss(first, parts.probability(sums))


def _smooth(
    sums: GroupedSums, name: str, statistic: Callable[[Sums], Floats], null: Any, bounds: Bounds
) -> pd.DataFrame:
    estimate = sums.estimate(statistic, bounds=bounds)
    scope = f"one layer; {sums.tokens_scope}; all documents together"
    return estimate_rows(sums.keys(), name, estimate, null, sums.total.tokens, scope)


def _chi_squared(sums: GroupedSums) -> pd.DataFrame:
    n, experts = sums.total.tokens, sums.stats.num_experts
    value = metrics.load_chi_squared(sums.total.counts, n)
    free = experts - 1 if sums.stats.num_experts_per_tok < experts else 0
    p = chdtrc(max(free, 1), value)
    about = f"one layer; {sums.tokens_scope}; {free} degrees of freedom; no interval: a test; p = "
    scopes = np.array([f"{about}{tail:.3g} if tokens were independent" for tail in p.flat], object).reshape(n.shape)
    scope = np.where(n > 0, scopes, f"one layer; {sums.tokens_scope}; not enough data: no tokens")
    return rows(sums.keys(), "load_chi_squared", np.where(n > 0, value, np.nan), null=float(free), n=n, scope=scope)


def _mean_null(sums: GroupedSums) -> Floats:
    """[L, G] mean over documents of MaxVio under uniform routing of their tokens."""
    experts, chosen = sums.stats.num_experts, sums.stats.num_experts_per_tok
    null = uniform_mean(metrics.max_violation, sums.sizes, experts, chosen)
    return metrics.ratio(np.where(sums.sizes > 0, null, 0.0).sum(-1), (sums.sizes > 0).sum(-1))


SPEC = TableSpec(
    function=balance_variants,
    source="stats",
    description="Balance in the other forms that papers give it.",
    keys=("layer", "group"),
    metrics={
        "inverse_simpson": Metric(
            "1 / sum f^2, effective number of experts, in [K, E]",
            "effective experts (Simpson)",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "load_chi_squared": Metric(
            "chi-square against even use, times (E - 1)/(E - K) for top-K; null: its mean, E - 1",
            "chi-square of the load",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "importance_cv_squared": Metric(
            "CV^2 of the experts' summed weights, Shazeer's importance loss; null: even weights",
            "CV² of the weights",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "max_violation_batch": Metric(
            "MaxVio of each document, averaged over documents; null: uniform routing of as many tokens",
            "max violation, mean of documents",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "load_balancing_loss_gshard": Metric(
            "GShard: sum of (share of first choices x P) / E; null 1/E^2, at balance",
            "GShard loss",
            bounds=POSITIVE,
            null=BALANCED,
        ),
        "load_balancing_loss_sequence": Metric(
            "loss of each document, averaged over documents (DeepSeek-V3 with softmax); null 1",
            "loss, mean of documents",
            ".4g",
            POSITIVE,
            BALANCED,
        ),
    },
    figures=(Drawing("balance_variants"),),
    narrows=True,
)
