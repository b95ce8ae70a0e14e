"""A model folder → a model with its weights."""

from pathlib import Path
from typing import TypeVar

import torch

from mixtral_probe import model as base
from mixtral_probe.checkpoint.checkpoint import Checkpoint
from mixtral_probe.checkpoint.memory import require_memory
from mixtral_probe.checkpoint.options import as_device, as_dtype
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention import Numerics

M = TypeVar("M", base.MixtralForCausalLM, base.MixtralModel)


def load_model(
    cls: type[M],
    folder: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    numerics: Numerics = "fast",
) -> M:
    """Build the model without memory, then give it one layer's weights after the other.

    Args:
        folder: a Hugging Face model folder, or "mini" for the embedded model.
        dtype: of the weights in memory; "auto" takes that of the file. By default float32 on a CPU, for exactness and
            because few CPUs multiply bfloat16 fast, and that of the file elsewhere.
        device: where they go; "meta" gives the model without weights.
        numerics: as in ``MixtralModel``.

    Raises:
        InputError: the folder is broken, an argument is unknown, or the weights do not fit into memory.
    """
    checkpoint, target = Checkpoint(folder), as_device(device)
    if issubclass(cls, base.MixtralForCausalLM) and not checkpoint.has_head:
        raise InputError(
            f"lm_head.weight is missing from {checkpoint.folder}: it is a base model; load it as MixtralModel"
        )
    kind = _chosen_dtype(dtype, checkpoint, target)
    with torch.device("meta"):
        model = cls(checkpoint.config, numerics).to(kind)
    if target.type != "meta":
        require_memory(sum(weight.numel() for weight in model.parameters()), kind, target)
        _fill(model, checkpoint, kind, target)
    return model.eval()


def _chosen_dtype(dtype: str | torch.dtype | None, checkpoint: Checkpoint, device: torch.device) -> torch.dtype:
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else "auto"
    return checkpoint.dtype if dtype == "auto" else as_dtype(dtype)


def _fill(
    model: base.MixtralForCausalLM | base.MixtralModel, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device
) -> None:
    body = model.model if isinstance(model, base.MixtralForCausalLM) else model
    for index, layer in enumerate(body.layers):
        layer.load_state_dict(checkpoint.layer(index, dtype, device), assign=True)
    singles = {"model.embed_tokens.weight": body.embed_tokens, "model.norm.weight": body.norm}
    if isinstance(model, base.MixtralForCausalLM) and not checkpoint.config.tie_word_embeddings:
        singles["lm_head.weight"] = model.lm_head
    for name, module in singles.items():
        module.load_state_dict({"weight": checkpoint.tensor(name, dtype, device)}, assign=True)
    if isinstance(model, base.MixtralForCausalLM) and checkpoint.config.tie_word_embeddings:
        model.lm_head.weight = body.embed_tokens.weight
