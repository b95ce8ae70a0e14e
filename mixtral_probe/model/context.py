"""The state that all layers of one forward call share."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.attention.rope import Tables


@dataclass(slots=True)
class ForwardContext:
    """Positions, masks, cache and phase of one forward call."""

    positions: Tensor
    """[B or 1, S] int64."""
    rotary: Tables
    """cos and sin, each [B or 1, S, D]."""
    mask: Tensor | None
    """[B or 1, 1, S, M] additive, or None for plain causal attention."""
    valid: Tensor | None = None
    """[B, S] bool, False on padding; None when nothing is padded."""
    input_ids: Tensor | None = None
    """[B, S] int64; None where the call has embeddings."""
    cache: KVCache | None = None
    phase: Literal["prefill", "decode"] = "prefill"
    step: int = 0
    """Forward calls made on this cache before this one."""
    buffers: dict[str, Tensor] = field(default_factory=dict)
    """Scratch memory shared by the layers of this call, only in inference mode."""

    def on(self, device: torch.device) -> "ForwardContext":
        """The same with its tensors on another device."""
        if self.positions.device == device:
            return self
        cos, sin = self.rotary
        return replace(
            self,
            positions=self.positions.to(device),
            rotary=(cos.to(device), sin.to(device)),
            mask=None if self.mask is None else self.mask.to(device),
            valid=None if self.valid is None else self.valid.to(device),
            input_ids=None if self.input_ids is None else self.input_ids.to(device),
            buffers={},
        )

    def buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Scratch memory of ``shape``, reused from layer to layer; its content is undefined."""
        size = torch.Size(shape).numel()
        memory = self.buffers.get(name)
        if memory is None or memory.numel() < size or memory.dtype != like.dtype:
            memory = self.buffers[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return memory[:size].view(shape)
