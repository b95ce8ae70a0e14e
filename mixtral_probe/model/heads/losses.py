"""Losses of the classification and question answering heads, as transformers defines them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.inputs import IGNORED
from mixtral_probe.model.losses import mean_cross_entropy

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def sequence_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Loss of one prediction per sequence.

    Args:
        logits: [B, N].
        labels: [B] or [B, N] numbers for regression (mean squared error), [B] labels for a single label (cross
            entropy, nats), [B, N] of 0 and 1 for several (binary cross entropy, nats).
        problem_type: one of ``PROBLEM_TYPES``; by default regression where N is 1, a single label where labels are
            integers, else several.

    Raises:
        InputError: labels do not fit, or the problem type is unknown.
    """
    labels = labels.to(logits.device)
    kind = problem_type or _default_problem_type(logits, labels)
    if kind not in PROBLEM_TYPES:
        raise InputError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {kind!r}")
    if kind == "single_label_classification":
        _check_count(labels, logits.shape[:1], "labels of single_label_classification")
        return label_loss(logits, labels.view(-1))
    if kind == "regression" and logits.shape[1] == 1:
        _check_count(labels, logits.shape[:1], "labels of regression")
        return F.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
    if labels.shape != logits.shape:
        raise InputError(f"labels of {kind} must have the shape {list(logits.shape)}, got {list(labels.shape)}")
    loss = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    return loss(logits, labels.to(logits.dtype))


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy in nats of logits [B, S, N] against labels [B, S]; −100 is ignored."""
    _check_count(labels, logits.shape[:2], "labels of token classification")
    return label_loss(logits.flatten(0, 1).float(), labels.to(logits.device).view(-1))


def span_loss(
    start: Tensor,
    end: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    num_items_in_batch: Tensor | float | None = None,
) -> Tensor:
    """Mean of the two cross entropies in nats of logits [B, S]; positions of S or more, [B] or [B, 1], are ignored.

    ``num_items_in_batch`` is what their sums are divided by, in place of the number of positions that count.
    """
    losses = []
    for logits, positions, name in ((start, start_positions, "start"), (end, end_positions, "end")):
        _check_count(positions, logits.shape[:1], f"{name}_positions")
        limit = logits.shape[1]
        targets = positions.to(logits.device).view(-1).clamp(0, limit)
        losses.append(mean_cross_entropy(logits, targets, num_items_in_batch, ignore_index=limit))
    return (losses[0] + losses[1]) / 2


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy in nats of logits [T, N] against labels [T]; −100 is ignored."""
    if labels.is_floating_point():
        raise InputError(f"labels must be integers, one for each prediction, got {labels.dtype}")
    if labels.device.type == "cpu":
        wrong = labels[((labels < 0) & (labels != IGNORED)) | (labels >= logits.shape[1])]
        if len(wrong):
            raise InputError(
                f"labels must be in 0–{logits.shape[1] - 1}, or {IGNORED} to be ignored, got {int(wrong[0])}; "
                "set num_labels to the number of labels"
            )
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)


def _default_problem_type(logits: Tensor, labels: Tensor) -> str:
    if logits.shape[1] == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in (torch.long, torch.int) else "multi_label_classification"


def _check_count(labels: Tensor, shape: torch.Size, name: str) -> None:
    """Trailing axes of size 1 are taken as absent."""
    if labels.numel() != shape.numel() or labels.shape[: len(shape)] != shape:
        raise InputError(f"{name} must have the shape {list(shape)}, got {list(labels.shape)}")
