"""The weights of a checkpoint, read into a model."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from mixtral_probe.checkpoint.checkpoint import Checkpoint
from mixtral_probe.checkpoint.names import TASK_HEADS
from mixtral_probe.checkpoint.placement import Placement
from mixtral_probe.errors import InputError
from mixtral_probe.model.base import BaseModel

_LEVEL = 5  # of the caller of ``from_pretrained``


@dataclass(frozen=True, slots=True)
class Loading:
    """What was not read as it is stored, under the names of transformers."""

    missing_keys: set[str] = field(default_factory=set)
    """Weights of the model that are not stored: new heads."""
    unexpected_keys: set[str] = field(default_factory=set)
    """Stored tensors that the model has no place for."""
    mismatched_keys: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)
    """Weights stored in another shape, with that shape and the model's: new heads too."""

    def to_dict(self) -> dict[str, Any]:
        """Return them by name, with an empty list of messages."""
        names = ("missing_keys", "unexpected_keys", "mismatched_keys")
        return {name: getattr(self, name) for name in names} | {"error_msgs": []}


def fill(
    model: BaseModel,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    placement: Placement,
    ignore_mismatched_sizes: bool = False,
) -> Loading:
    """Read the weights, one layer after the other; a head that is not stored is drawn, with a warning.

    Args:
        model: on the meta device.
        checkpoint: of the same sizes.
        dtype: of the weights in memory.
        placement: the device of each.
        ignore_mismatched_sizes: draw a head that is stored for another number of labels.

    Raises:
        InputError: a head is stored for another number of labels.
    """
    body, loading = model.base_model, Loading()
    for index, layer in enumerate(body.layers):
        if placement.layers[index].type != "meta":
            layer.load_state_dict(checkpoint.layer(index, dtype, placement.layers[index]), assign=True)
    prefix = "model." if body is model else ""
    own = {prefix + name: (name, weight) for name, weight in model.named_parameters()}
    for name, (own_name, weight) in own.items():
        device = placement.of(name)
        if name.startswith("model.layers.") or device.type == "meta":
            continue
        if _is_new(name, weight, checkpoint, loading, ignore_mismatched_sizes):
            _assign(model, own_name, _drawn(name, weight, model, dtype, device))
        else:
            _assign(model, own_name, checkpoint.tensor(name, dtype, device))
    model.tie_weights()
    unread = {name for name in checkpoint.names if name not in own}
    loading.unexpected_keys.update(unread, checkpoint.unused)
    _warn(model, checkpoint, loading, unread - {"lm_head.weight"} if body is not model else set())
    return loading


def _is_new(name: str, weight: torch.Tensor, checkpoint: Checkpoint, loading: Loading, ignore_shapes: bool) -> bool:
    """Whether a weight is not read, but drawn."""
    if name in TASK_HEADS and name not in checkpoint.names:
        loading.missing_keys.add(name)
        return True
    stored, shape = checkpoint.shape(name), tuple(weight.shape)
    if stored == shape:
        return False
    if not ignore_shapes:
        raise InputError(
            f"{name} must have the shape {list(shape)} by the config's num_labels, got {list(stored)} in "
            f"{checkpoint.folder}; pass num_labels={stored[0]}, or ignore_mismatched_sizes=True for a new head"
        )
    loading.mismatched_keys.add((name, stored, shape))
    return True


def _assign(model: BaseModel, name: str, weight: torch.Tensor) -> None:
    stem, _, leaf = name.rpartition(".")
    model.get_submodule(stem).load_state_dict({leaf: weight}, assign=True, strict=False)


def _drawn(
    name: str, weight: torch.Tensor, model: BaseModel, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:  # fmt: skip
    """Initial weights of a head: normal, with a bias of 0."""
    fresh = torch.zeros(weight.shape, dtype=dtype, device=device)
    return fresh if name.endswith("bias") else fresh.normal_(0.0, model.config.initializer_range)


def _warn(model: BaseModel, checkpoint: Checkpoint, loading: Loading, unread: set[str]) -> None:
    """Name new heads, and stored ones that the model lacks."""
    if loading.missing_keys:
        names = _listed(loading.missing_keys, "not in", checkpoint)
        warnings.warn(f"{names}: this head has random weights and must be trained", stacklevel=_LEVEL)
    if loading.mismatched_keys:
        names = _listed({name for name, _, _ in loading.mismatched_keys}, "of another shape in", checkpoint)
        warnings.warn(f"{names}: this head has random weights and must be trained", stacklevel=_LEVEL)
    if unread:
        names = f"{' and '.join(sorted(unread, reverse=True))} of {checkpoint.folder}"
        verb = "is" if len(unread) == 1 else "are"
        warnings.warn(f"{names} {verb} not read: {type(model).__name__} has no such head", stacklevel=_LEVEL)


def _listed(names: set[str], where: str, checkpoint: Checkpoint) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(sorted(names, reverse=True))} {verb} {where} {checkpoint.folder}"
