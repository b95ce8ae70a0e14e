"""Saving a model in a folder, in a layout of Hugging Face."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from mixtral_probe import files
from mixtral_probe import model as base
from mixtral_probe.checkpoint.names import HEAD, Layout, pieces, stored_name
from mixtral_probe.checkpoint.options import as_bytes, as_dtype
from mixtral_probe.checkpoint.weights import SAFETENSORS
from mixtral_probe.checkpoint.writer import write_safetensors
from mixtral_probe.config import GENERATION_CONFIG
from mixtral_probe.errors import InputError
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.resizing.pruning import with_every_head
from mixtral_probe.paths import checked_path

Shard = dict[str, Tensor]


def save_model(
    model: BaseModel,
    folder: str | Path,
    layout: Layout = "classic",
    max_shard_size: int | str | None = "5GB",
    dtype: str | torch.dtype | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write config.json, generation_config.json and the weights; other files of the folder stay.

    Everything is written under a temporary name and renamed once it is complete.

    Args:
        layout: "classic", which every loader reads, or "fused", that of transformers 5 in memory.
        max_shard_size: split the weights into files of at most this size; None for a single file.
        dtype: of the weights on disk; by default that of the model.
        state_dict: weights by their names in memory, in place of the model's own.

    Raises:
        InputError: an argument is unknown, the model has no weights, or the disk is too full.
    """
    if layout not in get_args(Layout):
        raise InputError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    weights = {name: (state_dict or {}).get(name, own).detach() for name, own in model.named_parameters()}
    if any(weight.is_meta for weight in weights.values()):
        raise InputError("a model on the meta device has no weights to save; load it with device='cpu' first")
    kind = next(iter(weights.values())).dtype if dtype is None else as_dtype(dtype)
    shards = _in_shards(_to_store(model, weights, layout), as_bytes(max_shard_size), kind)
    folder = checked_path(folder)
    if folder.is_file():
        raise InputError(f"a model is saved as a folder, got the file {folder}; choose another name")
    with files.plain_errors(folder, _size(shards, kind)):
        folder.mkdir(parents=True, exist_ok=True)
        with files.writing(folder):
            files.require_space(folder, _size(shards, kind))
            _write(model, shards, kind, folder)


def _to_store(model: BaseModel, weights: Mapping[str, Tensor], layout: Layout) -> Iterator[tuple[str, Tensor]]:
    """Stored name and a view of the weight, in the order of the layers; a tied head is left out."""
    is_base = isinstance(model, base.MixtralModel)
    for own_name, own_weight in weights.items():
        name = f"model.{own_name}" if is_base else own_name
        if name == HEAD and model.config.tie_word_embeddings:
            continue
        weight = with_every_head(model, own_name, own_weight)
        for piece in pieces(name, tuple(weight.shape), layout):
            yield stored_name(piece.name, layout, is_base), piece.of(weight)


def _in_shards(weights: Iterator[tuple[str, Tensor]], limit: int | None, dtype: torch.dtype) -> dict[str, Shard]:
    """File name → its tensors; a tensor above the limit has a file of its own."""
    shards: list[Shard] = [{}]
    filled = 0
    for name, weight in weights:
        size = weight.numel() * dtype.itemsize
        if limit is not None and shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = weight
        filled += size
    if len(shards) == 1:
        return {SAFETENSORS.whole: shards[0]}
    return {SAFETENSORS.shard(i, len(shards)): shard for i, shard in enumerate(shards, start=1)}


def _size(shards: dict[str, Shard], dtype: torch.dtype) -> int:
    return sum(weight.numel() for shard in shards.values() for weight in shard.values()) * dtype.itemsize


def _write(model: BaseModel, shards: dict[str, Shard], dtype: torch.dtype, folder: Path) -> None:
    """Write every file under a temporary name, then rename, the index last; remove files of an earlier save."""
    settings = {"config.json": _config_fields(model, dtype), **_generation_fields(model)}
    names = [*shards, *settings, *([SAFETENSORS.index] if len(shards) > 1 else [])]

    def fill(part: Path) -> list[str]:
        for name, shard in shards.items():
            write_safetensors(part / name, shard, dtype)
        for name, content in settings.items():
            _write_json(part / name, content)
        if SAFETENSORS.index in names:
            weight_map = {tensor: file for file, shard in shards.items() for tensor in shard}
            content = {"metadata": {"total_size": _size(shards, dtype)}, "weight_map": weight_map}
            _write_json(part / SAFETENSORS.index, content)
        return names

    files.write_into(folder, fill)
    for path in folder.iterdir():
        if SAFETENSORS.has(path.name) and path.name not in names:
            path.unlink()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _config_fields(model: BaseModel, dtype: torch.dtype) -> dict[str, Any]:
    """transformers 4 reads ``torch_dtype``, transformers 5 ``dtype``."""
    name = str(dtype).removeprefix("torch.")
    kind = next(c.__name__ for c in type(model).__mro__ if c.__module__.startswith("mixtral_probe.model."))
    return model.config.to_dict() | {"architectures": [kind], "dtype": name, "torch_dtype": name}


def _generation_fields(model: BaseModel) -> dict[str, dict[str, Any]]:
    """The file of a language model's defaults of generation, as transformers writes it, by its name."""
    if not isinstance(model, base.MixtralForCausalLM):
        return {}
    return {GENERATION_CONFIG: model.generation_config.to_dict()}
