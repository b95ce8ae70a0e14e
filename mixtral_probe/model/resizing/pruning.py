"""Removal of attention heads from a model."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.attention import Attention
from mixtral_probe.model.attention.pruned import PrunedAttention
from mixtral_probe.model.base import BaseModel
from mixtral_probe.reading import one_sentence

PRUNED = "heads_pruned"
"""The config field of the removed heads, {layer: [heads]}; with ``pruned_heads``, the name of transformers 4, that
version would fail to prune a Mixtral."""
_PROJECTION = re.compile(r"(?:model\.)?layers\.(\d+)\.self_attn\.([qo])_proj\.weight")


@torch.no_grad()
def prune_heads(model: BaseModel, heads: Mapping[int, Iterable[int]]) -> None:
    """Remove the weights of query heads; the outputs are those of a model in which they give 0.

    See ``PrunedAttention``. Attention weights exist only for the remaining heads.

    Args:
        heads: {layer: heads}, counted as in the whole model; heads removed before stay removed.

    Raises:
        InputError: a layer or a head does not exist, or a layer would have no head.
    """
    body = model.base_model
    total = body.config.num_attention_heads
    removed = {layer: set(chosen) for layer, chosen in removed_heads(body.config).items()}
    for layer, chosen in heads.items():
        _check(body.config, layer, chosen := list(chosen))
        if len(removed.setdefault(layer, set()) | set(chosen)) == total:
            raise InputError(f"a layer must keep a head, got all {total} heads of layer {layer}; leave one out")
        removed[layer] |= set(chosen)
    for layer in filter(removed.get, heads):
        whole = body.layers[layer].self_attn
        assert isinstance(whole, Attention)
        remaining = [head for head in range(total) if head not in removed[layer]]
        body.layers[layer].self_attn = PrunedAttention(whole, body.config, remaining)
    by_layer = {layer: sorted(chosen) for layer, chosen in sorted(removed.items()) if chosen}
    model.config = model.config.replace(**{PRUNED: by_layer})


def removed_heads(config: MixtralConfig) -> dict[int, tuple[int, ...]]:
    """The removed heads of each layer that lacks some, from a config of a model or of a file.

    Raises:
        InputError: the field has another form.
    """
    field = getattr(config, PRUNED, None)
    with one_sentence(f"config field {PRUNED} must be layers with lists of heads", repr(field), "remove it"):
        return {int(layer): tuple(map(int, heads)) for layer, heads in (field or {}).items()}


def with_every_head(model: BaseModel, name: str, weight: Tensor) -> Tensor:
    """A parameter in its shape before pruning, with zeros for removed heads; others are returned unchanged."""
    match = _PROJECTION.fullmatch(name)
    attention = model.base_model.layers[int(match[1])].self_attn if match else None
    if match is None or not isinstance(attention, PrunedAttention):
        return weight
    axis = 0 if match[2] == "q" else 1
    shape = list(weight.shape)
    shape[axis] = attention.num_heads * attention.head_dim
    return weight.new_zeros(shape).index_copy(axis, attention.rows(attention.heads), weight)


def _check(config: MixtralConfig, layer: int, heads: Iterable[int]) -> None:
    layers, total = config.num_hidden_layers, config.num_attention_heads
    if not 0 <= layer < layers:
        raise InputError(f"layer must be in 0–{layers - 1} (this model has {layers}), got {layer}")
    for head in heads:
        if not 0 <= head < total:
            raise InputError(f"head must be in 0–{total - 1} (this model has {total}), got {head}")
