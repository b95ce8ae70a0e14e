"""What the tables of the router's confidence share: its quantities and their nulls."""

from mixtral_probe.stats import CONFIDENCE, RoutingStats
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


def confidence_nulls(stats: RoutingStats) -> dict[str, float]:
    """Return the value of each quantity for a router whose logits are all alike."""
    experts, chosen = stats.num_experts, stats.num_experts_per_tok
    margins = {"selection_margin": 0.0, "order_margin": 0.0}
    return {"router_entropy": 1.0, "top1_probability": 1 / experts, "topk_mass": chosen / experts} | margins


def why_no_tokens(quantity: str) -> str:
    """Say why no token may have a quantity."""
    return "no tokens with an expert left to compare" if quantity.endswith("margin") else "no tokens"
