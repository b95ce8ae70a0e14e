"""Names of weights: in memory, and in the layouts of a folder.

In memory the experts of a layer are two stacked tensors, ``model.layers.{i}.block_sparse_moe.experts.gate_up_proj``
[E, 2I, C] (w1's rows, then w3's) and ``.down_proj`` [E, C, I]. The **fused** layout of transformers 5 stores
these two, under ``mlp`` instead of ``block_sparse_moe``. The **classic** layout stores ``.experts.{e}.w1.weight``
and ``.w3.weight`` [I, C] and ``.w2.weight`` [C, I]. A base model lacks the prefix ``model.``. Other names are the same.
The two layouts of Mistral are read only; ``native`` has their names.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

from torch import Tensor

Layout = Literal["classic", "fused"]
NativeLayout = Literal["torrent", "mistral"]
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
TASK_HEADS = ("score.weight", "score.bias", "qa_outputs.weight", "qa_outputs.bias")
"""Weights of the classification and question answering heads."""

_EXPERT = re.compile(r"model\.layers\.([0-9]{1,9})\.block_sparse_moe\.experts\.([0-9]{1,9})\.(w[123])\.weight")
_LAYER = re.compile(r"model\.layers\.([0-9]{1,9})\.(.+)")
_STACKED = ("gate_up_proj", "down_proj")
_ROTATED = (".q_proj.weight", ".k_proj.weight")


def _whole(weight: Tensor) -> Tensor:
    return weight


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a tensor in memory that is one stored tensor."""

    name: str
    """Of the stored tensor, from ``common_name``."""
    view: Callable[[Tensor], Tensor] = _whole
    """The tensor in memory → a view of this part, in the order of the stored numbers."""
    flat: bool = False
    """Whether all axes of the view but the last are one axis of the stored tensor."""

    def of(self, whole: Tensor) -> Tensor:
        """A view of this part of the tensor in memory."""
        return self.view(whole)

    def stored_shape(self, whole: Tensor) -> tuple[int, ...]:
        """The shape of the stored tensor."""
        shape = tuple(self.of(whole).shape)
        return (prod(shape[:-1]), shape[-1]) if self.flat else shape


def pieces(
    name: str, shape: tuple[int, ...], layout: Layout | NativeLayout, head_dim: int | None = None
) -> list[Piece]:
    """The stored pieces of the tensor ``name``, experts in numeric order; native layouts need head_dim."""
    stem, _, leaf = name.rpartition(".")
    if layout in ("torrent", "mistral") and name.endswith(_ROTATED):
        assert head_dim is not None
        return [Piece(name, partial(_interleaved, head_dim=head_dim), flat=True)]
    if layout == "fused" or leaf not in _STACKED:
        return [Piece(name)]
    half = shape[1] // 2
    if layout == "torrent":
        return _flat_pieces(stem.removesuffix(".experts"), leaf, half)
    if leaf == "down_proj":
        return [Piece(f"{stem}.{e}.w2.weight", partial(_rows, expert=e)) for e in range(shape[0])]
    return [
        Piece(f"{stem}.{e}.{part}.weight", partial(_rows, expert=e, rows=rows))
        for e in range(shape[0])
        for part, rows in (("w1", slice(half)), ("w3", slice(half, None)))
    ]


def _flat_pieces(stem: str, leaf: str, half: int) -> list[Piece]:
    """All experts in one tensor, [E·I, C], with w2 transposed."""
    if leaf == "down_proj":
        return [Piece(f"{stem}.w2", _transposed, flat=True)]
    return [
        Piece(f"{stem}.{part}", partial(_rows, expert=slice(None), rows=rows), flat=True)
        for part, rows in (("w1", slice(half)), ("w3", slice(half, None)))
    ]


def _rows(weight: Tensor, expert: int | slice, rows: slice = slice(None)) -> Tensor:
    return weight[expert][..., rows, :]


def _transposed(weight: Tensor) -> Tensor:
    return weight.mT


def _interleaved(weight: Tensor, head_dim: int) -> Tensor:
    """Half-split rotary rows [heads·D, C], i and i + D/2 a pair, in interleaved order: [heads, D/2, 2, C]."""
    return weight.view(-1, 2, head_dim // 2, weight.shape[1]).transpose(1, 2)


def common_name(stored: str) -> str:
    """One name for both layouts and base models: that in memory, or that of an expert's piece."""
    if not stored.startswith(("model.", "lm_head.", "score.", "qa_outputs.")):
        stored = f"model.{stored}"
    return stored.replace(".mlp.", ".block_sparse_moe.", 1)


def stored_name(name: str, layout: Layout, base: bool) -> str:
    """The inverse of ``common_name``: the name in a layout, for a base model without ``model.``."""
    if layout == "fused":
        name = name.replace(".block_sparse_moe.", ".mlp.", 1)
    return name.removeprefix("model.") if base else name


def is_frequency(stored: str) -> bool:
    """Whether a tensor is the rotary frequencies of an old checkpoint, which follow from the config."""
    return stored.endswith("rotary_emb.inv_freq")


def layer_of(name: str) -> int | None:
    """The layer of a tensor; None for one outside the layers."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def location(name: str) -> str:
    """The location of a tensor in words: ``layer 3, expert 7: w1``."""
    if match := _EXPERT.fullmatch(name):
        return f"layer {match[1]}, expert {match[2]}: {match[3]}"
    if match := _LAYER.fullmatch(name):
        return f"layer {match[1]}: {match[2]}"
    return name
