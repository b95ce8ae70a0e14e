"""Losses on router logits (metrics of the same names exist for traces in ``mixtral_probe.metrics``)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.model.inputs import IGNORED, require_labels

LOSS_ARGUMENTS = ("shift_labels", "num_items_in_batch", "ignore_index")
"""Arguments of ``forward`` that are those of ``next_token_loss``."""


def load_balancing_loss_pooled(router_logits: Sequence[Tensor], top_k: int, mask: Tensor | None = None) -> Tensor:
    """E · Σ_e C_e P_e over all layers and unmasked tokens pooled, as transformers computes it; K at balance, E at most.

    C_e is the share of (layer, token) rows that chose e, so Σ C = K, and P_e its mean probability. Imbalances of
    pooled layers can cancel, unlike in ``load_balancing_loss``. Fedus et al. 2021, arXiv 2101.03961, equations 4–6.

    Args:
        router_logits: L of [T, E], raw.
        mask: [B, S] or [T], 0 on tokens to leave out; with all 0 the loss is 0.
    """
    counts, probabilities = zip(*(_share_and_probability(z, top_k, mask) for z in router_logits), strict=True)
    device = counts[0].device
    share = torch.stack([c.to(device) for c in counts]).mean(0)
    mean = torch.stack([p.to(device) for p in probabilities]).mean(0)
    return (share * mean).sum() * share.shape[0]


def load_balancing_loss(router_logits: Sequence[Tensor], top_k: int, mask: Tensor | None = None) -> Tensor:
    """Mean over layers of E/K · Σ_e C_e P_e; 1 at balance, E/K at most. Arguments as in the pooled variant."""
    layers = []
    for logits in router_logits:
        share, mean = _share_and_probability(logits, top_k, mask)
        layers.append((share * mean).sum() * share.shape[0] / top_k)
    return torch.stack(layers).mean()


def router_z_loss(router_logits: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Mean over layers and tokens of logsumexp(z)²; (ln E)² at z = 0. Zoph et al. 2022, arXiv 2202.08906, eq. 5."""
    squares = [_masked_mean(z.float().logsumexp(-1).square()[:, None], mask) for z in router_logits]
    return torch.stack(squares).mean()


def next_token_loss(
    logits: Tensor,
    labels: Tensor | None,
    shift_labels: Tensor | None = None,
    num_items_in_batch: Tensor | float | None = None,
    ignore_index: int = IGNORED,
) -> Tensor | None:
    """Cross entropy in nats of logits [B, S, V] at position s against labels [B, S] at s + 1; None without labels.

    Args:
        shift_labels: [B, S], at s itself; they take precedence.
        num_items_in_batch: what the sum is divided by; by default the number of labels that are not ignored.
        ignore_index: the label that is ignored.

    Raises:
        InputError: labels have another shape or dtype, or are outside the vocabulary.
    """
    if shift_labels is None and labels is not None:
        require_labels(labels, logits, ignore_index)
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[:, 1:]
    if shift_labels is None:
        return None
    require_labels(shift_labels, logits, ignore_index)
    targets = shift_labels.to(logits.device).reshape(-1)
    return mean_cross_entropy(logits.float().flatten(0, 1), targets, num_items_in_batch, ignore_index)


def mean_cross_entropy(
    logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | float | None = None, ignore_index: int = IGNORED
) -> Tensor:
    """Cross entropy in nats of logits [T, N] against labels [T]; other arguments as in ``next_token_loss``."""
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels, ignore_index=ignore_index)
    if isinstance(num_items_in_batch, Tensor):
        num_items_in_batch = num_items_in_batch.to(logits.device)
    return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum") / num_items_in_batch


def _share_and_probability(logits: Tensor, top_k: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """C [E] and P [E] of one layer's logits [T, E]."""
    probabilities = F.softmax(logits.float(), dim=-1)
    chosen = torch.zeros_like(probabilities).scatter_(1, probabilities.topk(top_k, dim=-1).indices, 1.0)
    return _masked_mean(chosen, mask), _masked_mean(probabilities, mask)


def _masked_mean(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the unmasked rows of [T, n]; 0 where there is none."""
    if mask is None:
        return rows.mean(0) if len(rows) else rows.sum(0)
    kept = mask.reshape(-1, 1).to(rows)
    return (rows * kept).sum(0) / kept.sum().clamp(min=1)
