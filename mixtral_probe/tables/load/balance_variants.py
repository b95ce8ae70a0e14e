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
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Bounds, estimate_rows
from mixtral_probe.tables.load.means import Mean, mean_rows
from mixtral_probe.tables.losses.loss_chance import LossChance
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import BALANCED, INDEPENDENT, NO_GATES, NO_LOGITS, PERMUTED_EXPERTS, POSITIVE, UNIFORM
from mixtral_probe.tables.spec import VALUES_WITH_BALANCED, Drawing, Metric, TableSpec

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@of_stats
def balance_variants(stats: RoutingStats) -> pd.DataFrame:
    """Return balance in other published forms than those of `balance` and `balance_loss`, per layer and group.

    Columns: layer, group, metric, value, corrected, low, high, null, balanced, n, scope.
    """
    sums, experts, chosen = GroupedSums.of(stats), stats.num_experts, stats.num_experts_per_tok
    even = _uniform_mean(metrics.inverse_simpson, sums.total.tokens, experts, chosen)
    most, windows = (0, experts / chosen - 1), "; null: uniform routing of windows as long"
    parts = [
        _smooth(sums, "inverse_simpson", lambda sums: metrics.inverse_simpson(sums.counts), even, (0, experts)),
        _chi_squared(sums),
        mean_rows(sums, Mean("max_violation_batch", "windows", "violation", "violation_chance", most, windows)),
        _importance_rows(sums),
    ]
    balanced = {"inverse_simpson": float(experts), "load_balancing_loss_gshard": 1 / experts**2, _SEQUENCE: 1.0}
    return tidy([*parts, *_loss_rows(sums)], SPEC, dict.fromkeys(SPEC.metrics, 0.0) | balanced)


def _importance_rows(sums: GroupedSums) -> pd.DataFrame:
    experts = sums.stats.num_experts
    if sums.total.gate is None:
        return missing_rows(sums.keys(), "importance_cv_squared", sums.total.tokens.shape, NO_GATES)
    null = metrics.expected_importance_cv_squared(sums.total.choices, experts)
    return _smooth(sums, "importance_cv_squared", _importance, null, (0, experts - 1))


def _loss_rows(sums: GroupedSums) -> list[pd.DataFrame]:
    experts, chosen = sums.stats.num_experts, sums.stats.num_experts_per_tok
    gshard = "load_balancing_loss_gshard"
    if sums.total.probability is None:
        return [missing_rows(sums.keys(), name, sums.total.tokens.shape, NO_LOGITS) for name in (gshard, _SEQUENCE)]
    parts, null = LossParts(chosen), LossChance(chosen).gshard(sums.total)
    about = f"{PERMUTED_EXPERTS}, in windows as long"
    return [
        _smooth(sums, gshard, lambda sums: _gshard(parts, sums), null, (0, 1 / experts), f"; {PERMUTED_EXPERTS}"),
        mean_rows(sums, Mean(_SEQUENCE, "windows", "loss", "loss_chance", (0, experts / chosen), f"; {about}")),
    ]


def _importance(sums: Sums) -> Floats:
    assert sums.gate is not None
    return metrics.cv_squared(sums.gate)


def _gshard(parts: LossParts, sums: Sums) -> Floats:
    first = metrics.ratio(sums.load[..., 0, :], sums.tokens[..., None])
    return metrics.gshard_loss(first, parts.probability(sums))


def _smooth(
    sums: GroupedSums, name: str, statistic: Callable[[Sums], Floats], null: Any, bounds: Bounds, about: str = ""
) -> pd.DataFrame:
    estimate = sums.estimate(statistic, bounds=bounds)
    scope = f"one layer; {sums.tokens_scope}; all documents together{about}"
    return estimate_rows(sums.keys(), name, estimate, null, sums.total.tokens, scope)


def _chi_squared(sums: GroupedSums) -> pd.DataFrame:
    n, experts = sums.total.tokens, sums.stats.num_experts
    value = metrics.load_chi_squared(sums.total.counts, sums.total.choices)
    free = experts - 1 if sums.stats.num_experts_per_tok < experts else 0
    p = chdtrc(max(free, 1), value)
    about = f"one layer; {sums.tokens_scope}; {free} degrees of freedom; no interval: a test; p = "
    scopes = np.array([f"{about}{tail:.3g} if tokens were independent" for tail in p.flat], object).reshape(n.shape)
    scope = np.where(n > 0, scopes, f"one layer; {sums.tokens_scope}; not enough data: no tokens")
    return rows(sums.keys(), "load_chi_squared", np.where(n > 0, value, np.nan), null=float(free), n=n, scope=scope)


def _uniform_mean(formula: Callable[..., Floats], tokens: Integers, experts: int, chosen: int) -> Floats:
    """[...] the mean of a metric of counts under uniform routing of so many tokens."""
    sizes, place = np.unique(tokens, return_inverse=True)
    means = [metrics.simulated_null(formula, int(size), experts, chosen)[0] for size in sizes]
    return np.array(means)[place].reshape(tokens.shape)


_SEQUENCE = "load_balancing_loss_sequence"
SPEC = TableSpec(
    function=balance_variants,
    source="stats",
    description="Balance in the other forms that papers give it.",
    keys=("layer", "group"),
    values=VALUES_WITH_BALANCED,
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
            "MaxVio of each window, averaged over windows; null: uniform routing of windows as long",
            "max violation, mean of windows",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "load_balancing_loss_gshard": Metric(
            "GShard: sum of (share of first choices x P) / E; 1/E^2 at balance; null: independent routing",
            "GShard loss",
            bounds=POSITIVE,
            null=INDEPENDENT,
            balanced=BALANCED,
        ),
        "load_balancing_loss_sequence": Metric(
            "loss of each window, averaged over windows (DeepSeek-V3 with softmax), 1 at balance; null: independent "
            "routing of windows as long, the mean of 1 + (E q/K - 1)/T",
            "loss, mean of windows",
            ".4g",
            POSITIVE,
            INDEPENDENT,
            BALANCED,
        ),
    },
    figures=(Drawing("balance_variants"),),
    narrows=True,
)
