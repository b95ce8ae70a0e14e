"""The confidence of the router for one token, and the fixed bins its values are counted in. Float64 throughout."""

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.metrics import order_margin, router_entropy, selection_margin

Floats = NDArray[np.float64]

NUM_BINS = 128
CONFIDENCE: dict[str, tuple[float, float]] = {
    "router_entropy": (0.0, 1.0),
    "top1_probability": (0.0, 1.0),
    "topk_mass": (0.0, 1.0),
    "selection_margin": (0.0, 16.0),
    "order_margin": (0.0, 16.0),
}
"""The Q quantities of `router_confidence` and the range of their fixed bins; values outside go to the outer bins."""
TOP1_PROBABILITY, TOPK_MASS = (list(CONFIDENCE).index(name) for name in ("top1_probability", "topk_mass"))
"""The places of two of them: the largest probability, and the sum of those of the chosen experts."""


def confidence_edges() -> Floats:
    """[Q, bins + 1] the edges of the fixed bins of each quantity of `CONFIDENCE`."""
    return np.stack([np.linspace(low, high, NUM_BINS + 1) for low, high in CONFIDENCE.values()])


def confidence(logits: Floats, probability: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """[..., Q] the quantities of `CONFIDENCE`, in its order; not finite where a margin has no other expert.

    Args:
        logits: [..., E] router logits.
        probability: [..., E] their softmax.
        chosen: [..., E] True for the experts chosen.
    """
    quantities = (
        router_entropy(probability),
        probability.max(-1),
        np.where(chosen, probability, 0.0).sum(-1),
        selection_margin(logits, chosen),
        order_margin(logits),
    )
    return np.moveaxis(np.stack(quantities), 0, -1)  # each quantity is contiguous


def confidence_bins(values: Floats) -> NDArray[np.intp]:
    """[..., Q] the bin of each value; values outside the range go to the first or last bin."""
    low, high = np.array(list(CONFIDENCE.values())).T
    position = np.floor((np.where(np.isfinite(values), values, 0.0) - low) / (high - low) * NUM_BINS)
    return np.clip(position, 0, NUM_BINS - 1).astype(np.intp)
