"""The load-balancing losses and the router z-loss: `balance_loss`."""

from typing import Literal

import numpy as np
import pandas as pd

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.losses.loss_chance import LossChance
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.losses.metric_rows import LossMetric, loss_rows
from mixtral_probe.tables.phrases import BALANCED, INDEPENDENT, POSITIVE
from mixtral_probe.tables.spec import VALUES_WITH_BALANCED, Drawing, Metric, TableSpec


@of_stats
def balance_loss(stats: RoutingStats) -> pd.DataFrame:
    """Return the load-balancing losses of each group, per layer and over layers, their normalisation in `scope`.

    Columns: layer (empty = over all layers), group, metric, value, corrected, low, high, null, balanced, n, scope.
    `load_balancing_loss_pooled` is what transformers' load_balancing_loss_func gives for the same tokens.
    """
    sums, losses = GroupedSums.of(stats), _losses(stats)
    parts = [loss_rows(sums, metric, SPEC.metrics[metric.name]) for metric in losses]
    return tidy(parts, SPEC, {metric.name: metric.balanced for metric in losses})


def _losses(stats: RoutingStats) -> list[LossMetric]:
    chosen, layers = stats.num_experts_per_tok, len(stats.layers)
    parts, chance = LossParts(chosen), LossChance(chosen)
    flat = float(np.log(stats.num_experts) ** 2)
    one, z = "one layer; E sum f P; 1 at balance", "mean logsumexp^2, nats^2; balanced: all logits 0"
    if stats.sums.z_loss is not None and np.isnan(stats.sums.z_loss).any():
        z += "; unknown: the trace has probabilities, which a constant added to all logits leaves alike"
    mean = f"mean of {layers} layers; 1 at balance"
    pooled = f"{layers} layers pooled and summed over the K = {chosen} choices, as transformers; K at balance"
    part = f"one layer's exact part of the loss pooled over {layers} layers; K/L at balance"
    all_layers: Literal["all layers"] = "all layers"
    return [
        LossMetric("load_balancing_loss", parts.each_layer, chance.each_layer, 1, one),
        LossMetric("load_balancing_loss_pooled_part", parts.pooled_part, chance.pooled_part, chosen / layers, part),
        LossMetric("router_z_loss", parts.z_loss, None, flat, f"one layer; {z}"),
        LossMetric("load_balancing_loss_mean", parts.mean, chance.mean, 1, mean, all_layers),
        LossMetric("load_balancing_loss_pooled", parts.pooled, chance.pooled, chosen, pooled, all_layers),
        LossMetric("router_z_loss", parts.z_loss_mean, None, flat, f"mean of {layers} layers; {z}", all_layers),
    ]


SPEC = TableSpec(
    function=balance_loss,
    source="stats",
    description="The load-balancing losses and the router z-loss.",
    keys=("layer", "group"),
    values=VALUES_WITH_BALANCED,
    metrics={
        "load_balancing_loss": Metric(
            "E sum f P of one layer, 1 at balance; null: independent routing, 1 + (E q/K - 1)/T with q a token's mean "
            "probability of its K choices",
            "loss of one layer",
            ".4g",
            POSITIVE,
            INDEPENDENT,
            BALANCED,
        ),
        "load_balancing_loss_mean": Metric(
            "mean of the layers' losses, 1 at balance; null: as for a layer",
            "mean of the layers' losses",
            ".4g",
            POSITIVE,
            INDEPENDENT,
            BALANCED,
        ),
        "load_balancing_loss_pooled": Metric(
            "as transformers: all layers concatenated, summed over the K choices, K at balance; null: as for a layer",
            "pooled loss (transformers)",
            ".4g",
            POSITIVE,
            INDEPENDENT,
            BALANCED,
        ),
        "load_balancing_loss_pooled_part": Metric(
            "each layer's exact part of the pooled loss; the parts sum to it; null: as for a layer",
            "part of the pooled loss",
            ".4g",
            POSITIVE,
            INDEPENDENT,
            BALANCED,
        ),
        "router_z_loss": Metric(
            "mean of logsumexp(logits)^2, nats^2; balanced: all logits 0, (ln E)^2; no null, since it is the same "
            "whichever experts are chosen",
            "router z-loss, nats²",
            bounds=POSITIVE,
            balanced="all logits 0",
        ),
    },
    figures=(Drawing("balance_loss"),),
    narrows=True,
)
