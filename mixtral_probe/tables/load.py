"""How much each expert is used: `expert_load`, `load_by_rank`, `balance`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums
from mixtral_probe.tables.frame import View, estimate_rows, measure, missing_rows, rows, tidy

Floats = NDArray[np.float64]
NO_LOGITS = "router logits were not recorded"
NO_GATES = "neither expert weights nor router logits were recorded"


def expert_load(stats: RoutingStats) -> pd.DataFrame:
    """Share of assignments, of tokens, of gate weight and of probability, per layer, group and expert.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope.
    """
    view, experts, chosen = View.of(stats), stats.num_experts, stats.num_experts_per_tok
    keys = view.keys(expert=np.arange(experts))
    shape = (*view.total.tokens.shape, experts)
    plan: list[tuple[str, Callable[[Sums], Floats], float, str]] = [
        ("share", lambda sums: metrics.share(sums.counts), 1 / experts, "share of assignments"),
        ("selection_frequency", _frequency, chosen / experts, "share of tokens"),
    ]
    parts = []
    if view.total.gate is not None:
        plan.append(("gate_share", lambda sums: _per_token(sums.gate, sums), 1 / experts, "mean gate weight"))
    else:
        parts.append(missing_rows(keys, "gate_share", shape, NO_GATES))
    if view.total.probability is not None:
        mean = "mean softmax over all experts"
        plan.append(("mean_probability", lambda sums: _per_token(sums.probability, sums), 1 / experts, mean))
    else:
        parts.append(missing_rows(keys, "mean_probability", shape, NO_LOGITS))
    for metric, statistic, null, what in plan:
        found = measure(view, statistic, bounds=(0, 1))
        scope = f"one layer; {view.tokens_scope}; {what}"
        parts.append(estimate_rows(keys, metric, found, null, view.total.tokens, scope))
    return tidy(parts, ("layer", "group", "expert"))


def _frequency(sums: Sums) -> Floats:
    return metrics.selection_frequency(sums.counts, sums.tokens)


def _per_token(mass: NDArray[np.float64] | None, sums: Sums) -> Floats:
    assert mass is not None
    return metrics.ratio(mass, sums.tokens[..., None])


def load_by_rank(stats: RoutingStats) -> pd.DataFrame:
    """Share of tokens whose first, second, ... choice each expert is, by layer, group, expert and rank (0 = strongest).

    Columns: layer, group, expert, rank, metric, value, low, high, null, n, scope.
    """
    view = View.of(stats)
    # [..., K, E] as kept becomes [..., E, K], in the order of the keys.
    found = measure(view, lambda sums: _by_rank(sums).swapaxes(-1, -2), bounds=(0, 1))
    keys = view.keys(expert=np.arange(stats.num_experts), rank=np.arange(stats.num_experts_per_tok))
    scope = f"one layer; {view.tokens_scope}; share of tokens by this rank alone"
    part = estimate_rows(keys, "rank_share", found, 1 / stats.num_experts, view.total.tokens, scope)
    return tidy([part], ("layer", "group", "expert", "rank"))


def _by_rank(sums: Sums) -> Floats:
    return metrics.ratio(sums.load, sums.tokens[..., None, None])


@dataclass(frozen=True)
class Balance:
    """A metric of one layer's counts: its formula, range, and whether an interval may be claimed."""

    formula: Callable[[ArrayLike], Floats]
    smooth: bool
    high: float
    what: str


def balance_metrics(experts: int, chosen: int) -> dict[str, Balance]:
    """The metrics of the table `balance` for E experts of which K are chosen, by name."""
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


def balance(stats: RoutingStats) -> pd.DataFrame:
    """How unevenly the experts are used, one number per layer and group and metric.

    Columns: layer, group, metric, value, low, high, null, n, scope.
    Intervals are given for the smooth metrics only; the others say where 95 % of uniform routings lie.
    """
    view = View.of(stats)
    parts = [
        _balance_rows(view, name, what)
        for name, what in balance_metrics(stats.num_experts, stats.num_experts_per_tok).items()
    ]
    return tidy(parts, ("layer", "group"))


def _balance_rows(view: View, name: str, metric: Balance) -> pd.DataFrame:
    tokens, counts = view.total.tokens, view.total.counts
    scope = f"one layer; {view.tokens_scope}; {metric.what}"
    null, most = _uniform(name, metric, tokens, counts)
    if metric.smooth:
        found = measure(view, lambda sums: metric.formula(sums.counts), bounds=(0, metric.high))
        return estimate_rows(view.keys(), name, found, null, tokens, scope)
    points = [f"{scope}; no interval: not smooth; 95 % of uniform routings <= {point:.4g}" for point in most.flat]
    scopes = np.where(
        tokens > 0, np.array(points, dtype=object).reshape(tokens.shape), f"{scope}; not enough data: no tokens"
    )
    return rows(view.keys(), name, metric.formula(counts), null=null, n=tokens, scope=scopes)


def _uniform(name: str, metric: Balance, tokens: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """[L, G] mean and 95 % point of the metric under uniform top-K routing of the same number of tokens."""
    experts = counts.shape[-1]
    chosen = metrics.ratio(counts.sum(-1), tokens)
    # Most layers see the same tokens: each size is drawn once.
    sizes, place = np.unique(np.stack([tokens.ravel(), np.nan_to_num(chosen).ravel()]), axis=1, return_inverse=True)
    pairs = [metrics.simulated_null(metric.formula, int(t), experts, float(k)) for t, k in sizes.T]
    mean, most = np.array(pairs).reshape(-1, 2).T[:, place.ravel()].reshape(2, *tokens.shape)
    closed = {"cv_squared": metrics.expected_cv_squared, "dead_experts": metrics.expected_dead_experts}
    return (closed[name](tokens, experts, chosen) if name in closed else mean), most
