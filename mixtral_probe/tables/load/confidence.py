"""What the tables of the router's confidence share: its quantities and their nulls."""

import numpy as np
from numpy.typing import ArrayLike

from mixtral_probe import metrics
from mixtral_probe.stats import CONFIDENCE, Sums
from mixtral_probe.tables.phrases import LOGITS_ALIKE, POSITIVE, SHARE
from mixtral_probe.tables.spec import Metric

CONFIDENCE_METRICS = {
    "router_entropy": Metric("H(p) / ln E of each token", "router entropy H(p)/ln E", ".3g", SHARE, LOGITS_ALIKE),
    "top1_probability": Metric(
        "largest softmax probability of each token", "largest probability", ".1%", SHARE, LOGITS_ALIKE
    ),
    "topk_mass": Metric(
        "softmax probability of the chosen experts together", "probability of the chosen", ".1%", SHARE, LOGITS_ALIKE
    ),
    "selection_margin": Metric(
        "logit of the weakest chosen minus the strongest other expert, nats",
        "selection margin, nats",
        null=LOGITS_ALIKE,
    ),
    "order_margin": Metric(
        "strongest minus second logit, nats", "order margin, nats", bounds=POSITIVE, null=LOGITS_ALIKE
    ),
}
assert list(CONFIDENCE_METRICS) == list(CONFIDENCE)


def mean_null(name: str, sums: Sums) -> ArrayLike:
    """[L, G] the mean of a quantity over tokens for a router whose logits are all alike; a number if it is the same."""
    experts = sums.load.shape[-1]
    if name == "topk_mass":
        return metrics.ratio(sums.counts.sum(-1), experts * sums.tokens)
    return {"router_entropy": 1.0, "top1_probability": 1 / experts}.get(name, 0.0)


def quantile_null(name: str, sums: Sums, level: float) -> ArrayLike:
    """[L, G] the same of a quantile: of k / E for tokens that chose k experts, if the quantity is `topk_mass`."""
    if name != "topk_mass":
        return mean_null(name, sums)
    reached = sums.choices.cumsum(-1) >= level * sums.tokens[..., None]
    return np.where(sums.tokens > 0, (reached.argmax(-1) + 1) / sums.load.shape[-1], np.nan)


def why_no_tokens(quantity: str) -> str:
    """Say why no token may have a quantity."""
    return "no tokens with an expert left to compare" if quantity.endswith("margin") else "no tokens"
