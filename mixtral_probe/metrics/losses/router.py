"""Router outputs for one token: probabilities, log normaliser and confidence. Float64 throughout."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def softmax(logits: ArrayLike) -> tuple[Floats, Floats]:
    """Return probabilities [..., E] and logsumexp [...] (nats) of router logits [..., E]; -inf has probability 0."""
    z = np.asarray(logits, np.float64)
    top = z.max(-1, keepdims=True)
    exponentials = np.exp(z - top)
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / total, (top + np.log(total))[..., 0]


def chosen_mask(expert_ids: ArrayLike, num_experts: int) -> NDArray[np.bool_]:
    """[..., K, E] which expert has which rank; all False where the id is -1."""
    return np.asarray(expert_ids)[..., None] == np.arange(num_experts)


def selection_margin(logits: ArrayLike, chosen: ArrayLike) -> Floats:
    """[...] weakest chosen minus strongest other logit, z_(K) - z_(K+1): the change in logits that changes the choice.

    Negative where the choice was forced against the logits; infinite where no other expert could be chosen.

    Args:
        logits: [..., E] router logits, nats.
        chosen: [..., E] True for the experts chosen.
    """
    z, mask = np.asarray(logits, np.float64), np.asarray(chosen, bool)
    with np.errstate(invalid="ignore"):  # -inf minus -inf, when a forbidden expert was forced: NaN, not counted
        return np.where(mask, z, np.inf).min(-1) - np.where(mask, -np.inf, z).max(-1)


def order_margin(logits: ArrayLike) -> Floats:
    """[...] strongest minus second logit, z_(1) - z_(2); infinite when there is only one expert to choose."""
    z = np.asarray(logits, np.float64)
    if z.shape[-1] < 2:
        return np.full(z.shape[:-1], np.inf)
    first, second = z[..., 0], np.full(z.shape[:-1], -np.inf)
    for expert in range(1, z.shape[-1]):  # faster than partitioning a few experts
        second = np.maximum(second, np.minimum(first, z[..., expert]))
        first = np.maximum(first, z[..., expert])
    return first - second


def router_entropy(probability: ArrayLike) -> Floats:
    """[...] H(p) / ln E of one token's probabilities [..., E], in [0, 1]; 1 by definition for a single expert."""
    p = np.asarray(probability, np.float64)
    nats = -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
    return nats / np.log(p.shape[-1]) if p.shape[-1] > 1 else nats + 1
