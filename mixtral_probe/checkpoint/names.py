"""Names of weights: ours in memory, and how the two Hugging Face layouts spell and cut them.

In memory the experts of a layer are two stacked tensors, ``model.layers.{i}.block_sparse_moe.experts.gate_up_proj``
[E, 2I, C] (w1's rows, then w3's) and ``.down_proj`` [E, C, I]. The **fused** layout of transformers 5 stores just
these, under ``mlp`` in place of ``block_sparse_moe``. The **classic** layout stores ``.experts.{e}.w1.weight`` and
``.w3.weight`` [I, C] and ``.w2.weight`` [C, I]. A base model lacks the prefix ``model.``. The rest is named alike.
"""

import re
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Layout = Literal["classic", "fused"]
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"

_EXPERT = re.compile(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight")
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_STACKED = ("gate_up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a tensor in memory that one stored tensor fills."""

    name: str
    """Of the stored tensor, as ``common_name`` gives it."""
    expert: int | None = None
    start: int = 0
    stop: int | None = None
    """First row, and the one after the last."""

    def of(self, whole: Tensor) -> Tensor:
        """A view of this part of the tensor in memory."""
        return (whole if self.expert is None else whole[self.expert])[self.start : self.stop]


def pieces(name: str, shape: tuple[int, ...], layout: Layout) -> list[Piece]:
    """What the tensor ``name`` of this shape is stored as, experts in numeric order."""
    stem, _, leaf = name.rpartition(".")
    if layout == "fused" or leaf not in _STACKED:
        return [Piece(name)]
    experts = range(shape[0])
    if leaf == "down_proj":
        return [Piece(f"{stem}.{e}.w2.weight", e) for e in experts]
    half = shape[1] // 2
    return [
        piece
        for e in experts
        for piece in (Piece(f"{stem}.{e}.w1.weight", e, 0, half), Piece(f"{stem}.{e}.w3.weight", e, half))
    ]


def common_name(stored: str) -> str:
    """One spelling for both layouts and base models: the name in memory, or that of an expert's piece."""
    if not stored.startswith(("model.", "lm_head.")):
        stored = f"model.{stored}"
    return stored.replace(".mlp.", ".block_sparse_moe.", 1)


def stored_name(name: str, layout: Layout, base: bool) -> str:
    """The reverse of ``common_name``: how a layout spells a name, for a base model without ``model.``."""
    if layout == "fused":
        name = name.replace(".block_sparse_moe.", ".mlp.", 1)
    return name.removeprefix("model.") if base else name


def ignored(stored: str) -> bool:
    """Old checkpoints carry the rotary frequencies, which follow from the config."""
    return stored.endswith("rotary_emb.inv_freq")


def place(name: str) -> str:
    """Where a tensor sits, in words: ``layer 3, expert 7: w1``."""
    if match := _EXPERT.fullmatch(name):
        return f"layer {match[1]}, expert {match[2]}: {match[3]}"
    if match := _LAYER.fullmatch(name):
        return f"layer {match[1]}: {match[2]}"
    return name
