"""What is averaged over documents, each alike: `balance_variants` in their published forms, and `expert_relevance`.

A batch is a document, or a block of documents where the statistics hold more than 64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, Sums, with_all
from mixtral_probe.tables.frame import View, estimate, estimate_rows, measure, missing_rows, rows, tidy
from mixtral_probe.tables.load import NO_GATES, NO_LOGITS
from mixtral_probe.tables.loss_parts import LossParts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
VARIANTS = {
    "inverse_simpson": "1 / sum f^2, effective number of experts, in [K, E]",
    "load_chi_squared": "chi-square against even use, times (E - 1)/(E - K) for top-K; null: its mean, E - 1",
    "importance_cv_squared": "CV^2 of the experts' summed weights, Shazeer's importance loss; null: even weights",
    "max_violation_batch": "MaxVio of each document, averaged over documents; null: uniform routing of as many tokens",
    "load_balancing_loss_gshard": "GShard: sum of (share of first choices x P) / E; null 1/E^2, at balance",
    "load_balancing_loss_sequence": "loss of each document, averaged over documents (DeepSeek-V3 with softmax); null 1",
}
RELEVANCE = {
    "average_gate_score": "mean weight the expert has in a document's tokens, averaged over documents (ESFT); null 1/E",
    "token_selection_ratio": "share of a document's choices that are the expert, averaged over documents; null 1/E",
}


def balance_variants(stats: RoutingStats) -> pd.DataFrame:
    """Balance in other published forms than those of `balance` and `balance_loss`, one number per layer and group.

    Columns: layer, group, metric, value, low, high, null, n, scope.
    """
    view, experts, chosen = View.of(stats), stats.num_experts, stats.num_experts_per_tok
    parts = LossParts(chosen)
    even = _uniform(metrics.inverse_simpson, view.total.tokens, experts, chosen)
    cv = metrics.expected_cv_squared(view.total.tokens, experts, chosen)
    made = [
        _smooth(view, "inverse_simpson", lambda sums: metrics.inverse_simpson(sums.counts), even, (0, experts)),
        _chi_squared(view),
        _by_batch(view, "max_violation_batch", _violation, _mean_null(view), (0, experts / chosen - 1)),
    ]
    shape = view.total.tokens.shape
    if view.total.gate is None:
        made.append(missing_rows(view.keys(), "importance_cv_squared", shape, NO_GATES))
    else:
        made.append(_smooth(view, "importance_cv_squared", _importance, cv, (0, experts - 1)))
    if view.total.probability is None:
        losses = ("load_balancing_loss_gshard", "load_balancing_loss_sequence")
        made += [missing_rows(view.keys(), name, shape, NO_LOGITS) for name in losses]
    else:
        name = "load_balancing_loss_gshard"
        made.append(_smooth(view, name, lambda sums: _gshard(parts, sums), 1 / experts**2, (0, 1 / experts)))
        made.append(_by_batch(view, "load_balancing_loss_sequence", parts.each_layer, 1.0, (0, experts / chosen)))
    return tidy(made, ("layer", "group"))


def expert_relevance(stats: RoutingStats) -> pd.DataFrame:
    """How much of a document each expert takes, averaged over documents: ESFT's two expert relevance scores.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope (Wang et al. 2024, 2407.01906, eqs. 5-6).
    """
    view, even = View.of(stats), 1 / stats.num_experts
    keys = view.keys(expert=np.arange(stats.num_experts))
    ratio = _by_batch(view, "token_selection_ratio", lambda sums: metrics.share(sums.counts), even, (0, 1), keys)
    if view.total.gate is None:
        shape = (*view.total.tokens.shape, stats.num_experts)
        gates = missing_rows(keys, "average_gate_score", shape, NO_GATES)
    else:
        gates = _by_batch(view, "average_gate_score", _gate_share, even, (0, 1), keys)
    return tidy([gates, ratio], ("layer", "group", "expert"))


def _importance(sums: Sums) -> Floats:
    assert sums.gate is not None
    return metrics.cv_squared(sums.gate)


def _gate_share(sums: Sums) -> Floats:
    assert sums.gate is not None
    return metrics.share(sums.gate)


def _violation(sums: Sums) -> Floats:
    return metrics.max_violation(sums.counts)


def _gshard(parts: LossParts, sums: Sums) -> Floats:
    first = metrics.ratio(sums.load[..., 0, :], sums.tokens[..., None])
    return metrics.gshard_loss(first, parts.probability(sums))


def _smooth(
    view: View, name: str, statistic: Callable[[Sums], Floats], null: Any, bounds: tuple[float, float]
) -> pd.DataFrame:
    found = measure(view, statistic, bounds=bounds)
    scope = f"one layer; {view.tokens_scope}; all documents together"
    return estimate_rows(view.keys(), name, found, null, view.total.tokens, scope)


def _chi_squared(view: View) -> pd.DataFrame:
    n, experts = view.total.tokens, view.stats.num_experts
    value = metrics.load_chi_squared(view.total.counts, n)
    free = experts - 1 if view.stats.num_experts_per_tok < experts else 0
    p = chdtrc(max(free, 1), value)
    about = f"one layer; {view.tokens_scope}; {free} degrees of freedom; no interval: a test; p = "
    told = np.array([f"{about}{own:.3g} if tokens were independent" for own in p.flat], object).reshape(n.shape)
    scope = np.where(n > 0, told, f"one layer; {view.tokens_scope}; not enough data: no tokens")
    return rows(view.keys(), "load_chi_squared", np.where(n > 0, value, np.nan), null=float(free), n=n, scope=scope)


def _batches(view: View) -> Sums:
    """[L, G, Bk, ...] the sums of each batch, with the group "all" last where there are others."""
    return view.stats.sums.map(lambda array: with_all(array, view.stats.by))


def _by_batch(
    view: View,
    name: str,
    statistic: Callable[[Sums], Floats],
    null: Any,
    bounds: tuple[float, float],
    keys: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of a statistic of each batch [L, G, Bk, tail], averaged over batches; the interval leaves out one."""
    values = statistic(_batches(view))
    there = view.sizes > 0
    present = there.reshape(*there.shape, *(1,) * (values.ndim - there.ndim))
    held, batches = np.where(present, values, 0.0), present.sum(2)
    value = metrics.ratio(held.sum(2), batches)
    deleted = metrics.ratio(held.sum(2, keepdims=True) - held, (batches[:, :, None] - present))
    found = estimate(value, deleted, there.astype(np.int64), view.stats.folded, bounds)
    unit = "each of 64 blocks of documents" if view.stats.folded else "each document"
    scope = f"one layer; {view.tokens_scope}; mean over documents, {unit} alike"
    return estimate_rows(view.keys() if keys is None else keys, name, found, null, view.total.tokens, scope)


def _mean_null(view: View) -> Floats:
    """[L, G] mean over batches of MaxVio under uniform routing of their tokens."""
    experts, chosen = view.stats.num_experts, view.stats.num_experts_per_tok
    null = _uniform(metrics.max_violation, view.sizes, experts, chosen)
    return metrics.ratio(np.where(view.sizes > 0, null, 0.0).sum(-1), (view.sizes > 0).sum(-1))


def _uniform(formula: Callable[..., Floats], tokens: Integers, experts: int, chosen: int) -> Floats:
    """[...] the mean of a metric of counts under uniform routing of so many tokens."""
    sizes, place = np.unique(tokens, return_inverse=True)
    means = [metrics.simulated_null(formula, int(size), experts, chosen)[0] for size in sizes]
    return np.array(means)[place].reshape(tokens.shape)
