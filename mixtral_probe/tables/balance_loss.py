"""The load-balancing losses and what each expert adds to them: `balance_loss`, `balance_loss_breakdown`."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.frame import Statistic, View, estimate_rows, measure, missing_rows, tidy
from mixtral_probe.tables.load import NO_LOGITS
from mixtral_probe.tables.loss_parts import LossParts


class _Metric(NamedTuple):
    """One metric of these tables and what its rows are about."""

    name: str
    statistic: Statistic
    null: float
    scope: str
    rows: Literal["each layer", "all layers", "all groups"] = "each layer"
    bounds: tuple[float, float] = (-np.inf, np.inf)


def balance_loss(stats: RoutingStats) -> pd.DataFrame:
    """The load-balancing losses of each group, per layer and over layers, each with its normalisation in `scope`.

    Columns: layer (empty = over all layers), group, metric, value, low, high, null, n, scope.
    `load_balancing_loss_pooled` is what transformers' load_balancing_loss_func gives for the same tokens.
    """
    view = View.of(stats)
    return tidy([_rows(view, metric, experts=False) for metric in _losses(stats)], ("layer", "group"))


def _losses(stats: RoutingStats) -> list[_Metric]:
    parts, chosen, layers = LossParts(stats.num_experts_per_tok), stats.num_experts_per_tok, len(stats.layers)
    flat = float(np.log(stats.num_experts) ** 2)
    z = "mean logsumexp^2, nats^2; null: all logits 0"
    pooled = f"{layers} layers pooled and summed over the K = {chosen} choices, as transformers; K at balance"
    part = f"one layer's exact part of the loss pooled over {layers} layers; K/L at balance"
    positive = (0.0, np.inf)
    return [
        _Metric("load_balancing_loss", parts.each_layer, 1, "one layer; E sum f P; 1 at balance", bounds=positive),
        _Metric("load_balancing_loss_pooled_part", parts.pooled_part, chosen / layers, part, bounds=positive),
        _Metric("router_z_loss", parts.z_loss, flat, f"one layer; {z}", bounds=positive),
        _Metric("load_balancing_loss_mean", parts.mean, 1, f"mean of {layers} layers; 1 at balance", "all layers"),
        _Metric("load_balancing_loss_pooled", parts.pooled, chosen, pooled, "all layers", positive),
        _Metric("router_z_loss", parts.z_loss_mean, flat, f"mean of {layers} layers; {z}", "all layers", positive),
    ]


def balance_loss_breakdown(stats: RoutingStats) -> pd.DataFrame:
    """What each expert adds to the loss, and what pooling hides, in exact parts.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope.
    Over experts, `contribution` sums to the layer's loss and `excess` to loss - 1. `pooling_gap_groups` (in the rows of
    group "all", when there are groups) sums to the token-weighted mean of the groups' losses minus the loss of "all";
    `pooling_gap_layers` (empty layer) sums to the mean of the layers' losses minus pooled loss / K.
    """
    view = View.of(stats)
    return tidy([_rows(view, metric, experts=True) for metric in _parts(stats)], ("layer", "group", "expert"))


def _parts(stats: RoutingStats) -> list[_Metric]:
    parts = LossParts(stats.num_experts_per_tok)
    layers = "E Cov(f, P) over layers; sums to mean of layers' losses - pooled loss / K"
    groups = "one layer; E Cov(f, P) over groups; sums to mean of groups' losses - loss of all"
    made = [
        _Metric("contribution", parts.contribution, 1 / stats.num_experts, "one layer; E f P; sums to the loss"),
        _Metric("excess", parts.excess, 0, "one layer; E (f - 1/E)(P - 1/E); sums to the loss - 1"),
        _Metric("pooling_gap_layers", parts.gap_layers, 0, layers, "all layers"),
    ]
    if stats.by is not None:
        made.append(_Metric("pooling_gap_groups", parts.gap_groups, 0, groups, "all groups"))
    return made


def _rows(view: View, metric: _Metric, *, experts: bool) -> pd.DataFrame:
    """One metric's rows; over all layers the layer is empty, over all groups the group is "all"."""
    keys = view.keys(expert=np.arange(view.stats.num_experts)) if experts else view.keys()
    tokens, sizes = view.total.tokens, view.sizes
    if metric.rows == "all layers":
        # A token counts once, although every layer routes it.
        keys, tokens, sizes = keys | {"layer": np.nan}, tokens.max(0), sizes.max(0)
    elif metric.rows == "all groups":
        keys, tokens, sizes = keys | {"group": ALL}, tokens[:, -1:], sizes[:, -1:]
    if view.total.probability is None:
        tail = (view.stats.num_experts,) if experts else ()
        return missing_rows(keys, metric.name, (*tokens.shape, *tail), NO_LOGITS)
    found = measure(view, metric.statistic, bounds=metric.bounds, sizes=sizes)
    return estimate_rows(keys, metric.name, found, metric.null, tokens, f"{metric.scope}; {view.tokens_scope}")
