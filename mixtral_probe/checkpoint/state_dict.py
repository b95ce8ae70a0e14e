"""State dicts: the names of either layout of Hugging Face are read, and a tied head is left out, as in folders."""

from typing import Any

import torch
from torch import Tensor

from mixtral_probe.checkpoint.names import EMBEDDING, HEAD, Piece, common_name, location, pieces
from mixtral_probe.errors import InputError
from mixtral_probe.model import MixtralModel
from mixtral_probe.model.base import BaseModel


def register_names(model: BaseModel) -> None:
    """Let ``load_state_dict`` take the names of transformers, and tie the head again after it."""
    model.register_load_state_dict_pre_hook(_to_names_in_memory)
    model.register_load_state_dict_post_hook(_tie)
    model.register_state_dict_post_hook(_without_tied_head)


def _to_names_in_memory(model: BaseModel, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename the tensors of a fused state dict, stack the experts of a classic one, and supply a tied head."""
    body = "model." if isinstance(model, MixtralModel) else ""
    stored = {common_name(key.removeprefix(prefix)): key for key in state_dict if key.startswith(prefix)}
    for own_name, weight in model.named_parameters():
        name = body + own_name
        parts = pieces(name, tuple(weight.shape), "classic")
        if stored.get(name, prefix + own_name) != prefix + own_name:
            state_dict[prefix + own_name] = state_dict.pop(stored[name])
        elif parts[0].name != name and all(piece.name in stored for piece in parts):
            tensors = [state_dict.pop(stored[piece.name]) for piece in parts]
            state_dict[prefix + own_name] = _stacked(tensors, parts, weight)
    if _has_tied_head(model) and prefix + EMBEDDING in state_dict:
        state_dict.setdefault(prefix + HEAD, state_dict[prefix + EMBEDDING])


def _tie(model: BaseModel, *_: Any) -> None:
    model.tie_weights()


def _without_tied_head(model: BaseModel, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Drop the second name of one tensor, which safetensors refuses to write."""
    if _has_tied_head(model):
        state_dict.pop(prefix + HEAD, None)


def _has_tied_head(model: BaseModel) -> bool:
    return model.config.tie_word_embeddings and model.get_output_embeddings() is not None


def _stacked(tensors: list[Tensor], parts: list[Piece], like: Tensor) -> Tensor:
    """The tensor in memory that is stored in these parts."""
    whole = torch.empty(like.shape, dtype=tensors[0].dtype, device=tensors[0].device)
    for tensor, piece in zip(tensors, parts, strict=True):
        if tuple(tensor.shape) != piece.stored_shape(whole):
            raise InputError(
                f"{location(piece.name)} must have the shape {list(piece.stored_shape(whole))} by the config, got "
                f"{list(tensor.shape)}; load it into a model of its own config"
            )
        piece.of(whole).copy_(tensor)
    return whole
