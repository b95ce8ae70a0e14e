"""The load-balancing losses and the router z-loss: `balance_loss`."""

import numpy as np
import pandas as pd

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.losses.metric_rows import LossMetric, loss_rows
from mixtral_probe.tables.phrases import BALANCED, POSITIVE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec


def balance_loss(stats: RoutingStats) -> pd.DataFrame:
    """Return the load-balancing losses of each group, per layer and over layers, their normalisation in `scope`.

    Columns: layer (empty = over all layers), group, metric, value, corrected, low, high, null, n, scope.
    `load_balancing_loss_pooled` is what transformers' load_balancing_loss_func gives for the same tokens.
    """
    sums = GroupedSums.of(stats)
    return tidy([loss_rows(sums, metric, SPEC.metrics[metric.name]) for metric in _losses(stats)], SPEC)


def _losses(stats: RoutingStats) -> list[LossMetric]:
    parts, chosen, layers = LossParts(stats.num_experts_per_tok), stats.num_experts_per_tok, len(stats.layers)
    flat = float(np.log(stats.num_experts) ** 2)
    z = "mean logsumexp^2, nats^2; null: all logits 0"
    pooled = f"{layers} layers pooled and summed over the K = {chosen} choices, as transformers; K at balance"
    part = f"one layer's exact part of the loss pooled over {layers} layers; K/L at balance"
    return [
        LossMetric("load_balancing_loss", parts.each_layer, 1, "one layer; E sum f P; 1 at balance"),
        LossMetric("load_balancing_loss_pooled_part", parts.pooled_part, chosen / layers, part),
        LossMetric("router_z_loss", parts.z_loss, flat, f"one layer; {z}"),
        LossMetric("load_balancing_loss_mean", parts.mean, 1, f"mean of {layers} layers; 1 at balance", "all layers"),
        LossMetric("load_balancing_loss_pooled", parts.pooled, chosen, pooled, "all layers"),
        LossMetric("router_z_loss", parts.z_loss_mean, flat, f"mean of {layers} layers; {z}", "all layers"),
    ]


SPEC = TableSpec(
    function=balance_loss,
    source="stats",
    description="The load-balancing losses and the router z-loss.",
    keys=("layer", "group"),
    metrics={
        "load_balancing_loss": Metric(
            "E sum f P of one layer, 1 at balance", "loss of one layer", ".4g", POSITIVE, BALANCED
        ),
        "load_balancing_loss_mean": Metric(
            "mean of the layers' losses, 1 at balance", "mean of the layers' losses", ".4g", POSITIVE, BALANCED
        ),
        "load_balancing_loss_pooled": Metric(
            "as transformers: all layers concatenated, summed over the K choices, K at balance",
            "pooled loss (transformers)",
            ".4g",
            POSITIVE,
            BALANCED,
        ),
        "load_balancing_loss_pooled_part": Metric(
            "each layer's exact part of the pooled loss; the parts sum to it",
            "part of the pooled loss",
            ".4g",
            POSITIVE,
            BALANCED,
        ),
        "router_z_loss": Metric(
            "mean of logsumexp(logits)^2, nats^2; null: all logits 0, (ln E)^2",
            "router z-loss, nats²",
            bounds=POSITIVE,
            null="all logits 0",
        ),
    },
    figures=(Drawing("balance_loss"),),
    narrows=True,
)
