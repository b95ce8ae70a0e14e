"""Taking attention heads out of a model."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.attention import Attention
from mixtral_probe.model.attention.pruned import PrunedAttention
from mixtral_probe.model.model import MixtralModel

PRUNED = "heads_pruned"
"""The config field that says which heads are gone, {layer: [heads]}; under its own name of old, ``pruned_heads``,
transformers 4 would try to prune a Mixtral and fail."""
_PROJECTION = re.compile(r"(?:model\.)?layers\.(\d+)\.self_attn\.([qo])_proj\.weight")


@torch.no_grad()
def prune_heads(model: nn.Module, heads: Mapping[int, Iterable[int]]) -> None:
    """Remove the weights of query heads; the outputs are those of a model in which they give 0.

    Heads keep their numbers. Their rows of q_proj and columns of o_proj go; a key and value head stays, since others
    of its group may read it. Sites show pruned heads as zeros, and attention weights only of those that are left.

    Args:
        heads: {layer: heads}, counted as in the whole model; those that are gone already stay gone.

    Raises:
        InputError: a layer or a head does not exist, or no head of a layer would be left.
    """
    body = decoder(model)
    total = body.config.num_attention_heads
    gone = {int(layer): set(some) for layer, some in (getattr(body.config, PRUNED, None) or {}).items()}
    for layer, some in heads.items():
        _check(body.config, layer, some := list(some))
        if len(gone.setdefault(layer, set()) | set(some)) == total:
            raise InputError(f"a layer must keep a head, got all {total} heads of layer {layer}; leave one out")
        gone[layer] |= set(some)
    for layer in filter(gone.get, heads):
        whole = body.layers[layer].self_attn
        assert isinstance(whole, Attention)
        rest = [head for head in range(total) if head not in gone[layer]]
        body.layers[layer].self_attn = PrunedAttention(whole, body.config, rest)
    known = {layer: sorted(some) for layer, some in sorted(gone.items()) if some}
    set_config(model, body.config.replace(**{PRUNED: known}))


def decoder(model: nn.Module) -> MixtralModel:
    """The decoder stack of a model, or the model itself where it is one."""
    body = model if isinstance(model, MixtralModel) else model.model
    assert isinstance(body, MixtralModel)
    return body


def set_config(model: nn.Module, config: MixtralConfig) -> None:
    """Give a model and its decoder stack another config."""
    model.config = decoder(model).config = config  # type: ignore[assignment]


def with_every_head(model: nn.Module, name: str, weight: Tensor) -> Tensor:
    """A parameter as it was before pruning, with zeros for heads that are gone; others come back as they are."""
    match = _PROJECTION.fullmatch(name)
    attention = decoder(model).layers[int(match[1])].self_attn if match else None
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
