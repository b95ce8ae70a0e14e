"""Loading a model from a folder."""

import warnings
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mixtral_probe import model as base
from mixtral_probe.checkpoint.checkpoint import Checkpoint
from mixtral_probe.checkpoint.names import TASK_HEADS
from mixtral_probe.checkpoint.options import as_dtype
from mixtral_probe.checkpoint.placement import DeviceMap, Placement, place, place_on, require_capacity
from mixtral_probe.config import GenerationConfig, MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import Numerics
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.resizing.pruning import PRUNED, prune_heads

M = TypeVar("M", bound=BaseModel)
_SHAPES = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "num_local_experts", "tie_word_embeddings", "model_type",
}  # fmt: skip
_EXTRA = {"num_labels", "rope_theta", "rope_scaling", "classifier_dropout", "token_classification_bias"}


def load_model(
    cls: type[M],
    folder: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    numerics: Numerics = "fast",
    device_map: DeviceMap | None = None,
    **changes: Any,
) -> M:
    """Build the model on the meta device, then read the weights of one layer after the other.

    Args:
        folder: a model folder of any layout, or "mini" for the embedded model.
        dtype: of the weights in memory; "auto" takes that of the file. By default float32 on a CPU, for exactness and
            because few CPUs multiply bfloat16 fast, and that of the file elsewhere.
        device: of the weights; "meta" gives the model without weights.
        numerics: as in ``MixtralModel``.
        device_map: instead of ``device``, one for each layer; see ``placement.place``.
        changes: config fields with other values than in the folder, such as ``num_labels`` or ``attention_dropout``.

    Raises:
        InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
    """
    checkpoint = Checkpoint(folder)
    config = changed(checkpoint.config, changes)
    if issubclass(cls, base.MixtralForCausalLM) and not checkpoint.has_head:
        raise InputError(
            f"lm_head.weight is missing from {checkpoint.folder}: it has no language head; load it as MixtralModel"
        )
    kind, placement = _dtype_and_placement(checkpoint, config, dtype, device, device_map)
    with torch.device("meta"):
        model = cls(_unpruned(config), numerics).to(kind)
    require_capacity(config, placement, kind)
    _fill(model, checkpoint, kind, placement)
    if isinstance(model, base.MixtralForCausalLM):
        stored = GenerationConfig.from_pretrained(checkpoint.folder)
        model.generation_config = model.generation_config if stored is None else stored
    model.name_or_path = str(folder)
    model.base_model.multi_device = len(placement.devices) > 1
    if pruned := getattr(config, PRUNED, None):
        prune_heads(model, {int(layer): heads for layer, heads in pruned.items()})
    return model.eval()


def changed(config: MixtralConfig, changes: dict[str, Any]) -> MixtralConfig:
    """Replace some fields of a config.

    Raises:
        InputError: a field does not exist, determines shapes of weights, or has an invalid value.
    """
    if not changes:
        return config
    for name in changes:
        if name in _SHAPES:
            raise InputError(f"{name} must be that of the weights in the folder, {getattr(config, name)}; leave it out")
        if name not in MixtralConfig.model_fields and name not in _EXTRA:
            raise InputError(
                f"arguments of from_pretrained must be its own or fields of a config, got {name!r}; leave it out"
            )
    return config.replace(**changes)


def _unpruned(config: MixtralConfig) -> MixtralConfig:
    """The config without pruned heads: files contain all heads."""
    return config.model_copy(update={PRUNED: None}) if getattr(config, PRUNED, None) else config


def _dtype_and_placement(
    checkpoint: Checkpoint, config: MixtralConfig, dtype: str | torch.dtype | None, device: str | torch.device,
    device_map: DeviceMap | None,
) -> tuple[torch.dtype, Placement]:  # fmt: skip
    if device_map is None:
        placement = place_on(config, device)
        return _chosen_dtype(dtype, checkpoint, placement), placement
    if str(device) != "cpu":
        raise InputError(
            f"only one of device and device_map may be given, got both (device={str(device)!r}); leave one out"
        )
    placement = place(config, device_map, _chosen_dtype("auto" if dtype is None else dtype, checkpoint, None))
    return _chosen_dtype(dtype, checkpoint, placement), placement


def _chosen_dtype(
    dtype: str | torch.dtype | None, checkpoint: Checkpoint, placement: Placement | None
) -> torch.dtype:  # fmt: skip
    if dtype is None:
        on_cpu = placement is not None and all(device.type == "cpu" for device in placement.layers)
        dtype = torch.float32 if on_cpu else "auto"
    return checkpoint.dtype if dtype == "auto" else as_dtype(dtype)


def _fill(model: BaseModel, checkpoint: Checkpoint, dtype: torch.dtype, placement: Placement) -> None:
    body = model.base_model
    for index, layer in enumerate(body.layers):
        if placement.layers[index].type != "meta":
            layer.load_state_dict(checkpoint.layer(index, dtype, placement.layers[index]), assign=True)
    prefix, fresh = "model." if body is model else "", []
    for own_name, weight in list(model.named_parameters()):
        name = prefix + own_name
        device = placement.of(name)
        if name.startswith("model.layers.") or device.type == "meta":
            continue
        if name in TASK_HEADS and name not in checkpoint.names:
            fresh.append(name)
            _assign(model, own_name, _new(name, weight, model, dtype, device))
            continue
        _check_labels(name, weight, checkpoint)
        _assign(model, own_name, checkpoint.tensor(name, dtype, device))
    model.tie_weights()
    if fresh:
        absent = f"{' and '.join(fresh)} {'is' if len(fresh) == 1 else 'are'} not in {checkpoint.folder}"
        warnings.warn(f"{absent}: this head has random weights and must be trained", stacklevel=4)
    own = {prefix + name for name, _ in model.named_parameters()}
    unread = [name for name in TASK_HEADS if name in checkpoint.names and name not in own and body is not model]
    if unread:
        warnings.warn(
            f"{' and '.join(unread)} of {checkpoint.folder} {'is' if len(unread) == 1 else 'are'} not read: "
            f"{type(model).__name__} has no such head", stacklevel=4,
        )  # fmt: skip


def _assign(model: nn.Module, name: str, weight: torch.Tensor) -> None:
    stem, _, leaf = name.rpartition(".")
    model.get_submodule(stem).load_state_dict({leaf: weight}, assign=True, strict=False)


def _new(
    name: str, weight: torch.Tensor, model: BaseModel, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:  # fmt: skip
    """Initial weights of a head: normal, with a bias of 0."""
    fresh = torch.zeros(weight.shape, dtype=dtype, device=device)
    return fresh if name.endswith("bias") else fresh.normal_(0.0, model.config.initializer_range)


def _check_labels(name: str, weight: torch.Tensor, checkpoint: Checkpoint) -> None:
    if checkpoint.shape(name) != weight.shape:
        raise InputError(
            f"{name} must have the shape {list(weight.shape)} by the config's num_labels, got "
            f"{list(checkpoint.shape(name))} in {checkpoint.folder}; pass num_labels={checkpoint.shape(name)[0]}"
        )
