"""Loading a model from a folder."""

from pathlib import Path
from typing import Any, TypeVar

import torch

from mixtral_probe import model as base
from mixtral_probe.checkpoint.arguments import similar
from mixtral_probe.checkpoint.checkpoint import Checkpoint
from mixtral_probe.checkpoint.fill import Loading, fill
from mixtral_probe.checkpoint.options import as_dtype
from mixtral_probe.checkpoint.placement import DeviceMap, Placement, place, place_on, require_capacity
from mixtral_probe.config import GenerationConfig, MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model import Numerics
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.resizing.pruning import PRUNED, prune_heads, removed_heads

M = TypeVar("M", bound=BaseModel)
_SHAPES = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "num_local_experts", "tie_word_embeddings", "model_type",
}  # fmt: skip
_KNOWN = ("dtype", "device", "numerics", "device_map", "config", *MixtralConfig.model_fields)
_EXTRA = {"num_labels", "rope_theta", "rope_scaling", "classifier_dropout", "token_classification_bias"}


def load_model(
    cls: type[M],
    folder: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    numerics: Numerics = "fast",
    device_map: DeviceMap | None = None,
    config: Any = None,
    ignore_mismatched_sizes: bool = False,
    generation_config: Any = None,
    **changes: Any,
) -> tuple[M, Loading]:
    """Build the model on the meta device, then read the weights of one layer after the other.

    Args:
        folder: a model folder of any layout, or "mini" for the embedded model.
        dtype: of the weights in memory; "auto" takes that of the file. By default float32 on a CPU, for exactness and
            because few CPUs multiply bfloat16 fast, and that of the file elsewhere.
        device: of the weights; "meta" gives the model without weights.
        numerics: as in ``MixtralModel``.
        device_map: instead of ``device``, one for each layer; see ``placement.place``.
        config: instead of that of the folder: a config, an object with ``to_dict``, or a path.
        ignore_mismatched_sizes: draw a head that is stored for another number of labels.
        generation_config: instead of that of the folder: options by name, or an object with ``to_dict``.
        changes: config fields with other values than in the folder, such as ``num_labels`` or ``attention_dropout``.

    Returns:
        the model, and what was not read as it is stored.

    Raises:
        InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
    """
    checkpoint = Checkpoint(folder, None if config is None else MixtralConfig.of(config))
    config = changed(checkpoint.config, changes)
    if issubclass(cls, base.MixtralForCausalLM) and not checkpoint.has_head:
        raise InputError(
            f"lm_head.weight is missing from {checkpoint.folder}: it has no language head; load it as MixtralModel"
        )
    kind, placement = _dtype_and_placement(checkpoint, config, dtype, device, device_map)
    with torch.device("meta"):
        model = cls(_unpruned(config), numerics).to(kind)
    require_capacity(config, placement, kind)
    loading = fill(model, checkpoint, kind, placement, ignore_mismatched_sizes)
    if isinstance(model, base.MixtralForCausalLM):
        stored = GenerationConfig.from_pretrained(checkpoint.folder) if generation_config is None else generation_config
        model.generation_config = model.generation_config if stored is None else stored
    model.name_or_path = str(folder)
    model.base_model.multi_device = len(placement.devices) > 1
    if pruned := removed_heads(config):
        prune_heads(model, pruned)
    return model.eval(), loading


def changed(config: MixtralConfig, changes: dict[str, Any]) -> MixtralConfig:
    """Replace some fields of a config.

    Raises:
        InputError: a field does not exist, determines shapes of weights, or has an invalid value.
    """
    if not changes:
        return config
    for name in changes:
        if name in _SHAPES and changes[name] != getattr(config, name):
            raise InputError(f"{name} must be that of the weights in the folder, {getattr(config, name)}; leave it out")
        if name not in MixtralConfig.model_fields and name not in _EXTRA:
            raise InputError(
                f"arguments of from_pretrained must be its own or fields of a config, got {name!r}"
                f"{similar(name, _KNOWN)}"
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
