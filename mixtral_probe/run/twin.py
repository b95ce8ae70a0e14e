"""A model of one or two layers with random weights in the shapes of another, to measure what its runs cost."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from mixtral_probe.checkpoint.memory import available_bytes
from mixtral_probe.config import MixtralConfig
from mixtral_probe.instruments import Window
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.batch import Batch

_BLOCK = 65521
"""Random numbers, which repeat; prime, so that rows of weights differ."""
_EXPERT_BYTES = 2**28
"""Experts of a layer on a CPU that have memory of their own each; larger ones share that of one expert."""


@dataclass(frozen=True)
class Twin:
    """Two models of random weights, which they share, on the device of another model and in its shapes and dtype."""

    short: MixtralForCausalLM
    """Of one layer."""
    tall: MixtralForCausalLM
    """Of two."""

    @classmethod
    def of(cls, model: MixtralForCausalLM) -> Self:
        """Draw the weights; those of the model are not read."""
        device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
        short, tall = (_empty(model, layers, dtype) for layers in (1, 2))
        block = (torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02).to(device, dtype)
        weights = {name: _random(block, name, weight, model.config) for name, weight in short.named_parameters()}
        for twin in (short, tall):
            for name, _ in list(twin.named_parameters()):
                _assign(twin, name, weights[name.replace("layers.1.", "layers.0.")])
        return cls(short.eval(), tall.eval())

    @property
    def device(self) -> torch.device:
        """Of both."""
        return self.short.lm_head.weight.device

    def batch(self, rows: int, length: int) -> Batch:
        """A batch of random tokens, [rows, length]."""
        ids = np.random.default_rng(0).integers(0, self.short.config.vocab_size, rows * length)
        windows = [Window(row, 0, row * length, length) for row in range(rows)]
        return Batch.of(ids, windows, self.short.lm_head.weight.device)


def _empty(model: MixtralForCausalLM, layers: int, dtype: torch.dtype) -> MixtralForCausalLM:
    config = model.config.model_copy(update={"num_hidden_layers": layers, "tie_word_embeddings": False})
    with torch.device("meta"):
        twin = MixtralForCausalLM(config, model.numerics).to(dtype)
    if model.numerics == "fast":
        twin.set_experts_implementation(model.experts_implementation)
    return twin


def _random(block: Tensor, name: str, weight: Tensor, config: MixtralConfig) -> Tensor:
    """A tensor in the shape of a weight: ones for a norm, else the block again and again."""
    if name.endswith("norm.weight"):
        return torch.ones(weight.shape, dtype=block.dtype, device=block.device)
    if ".experts." in name and not _fits(weight.numel() * block.element_size() * 3 // 2, block.device):
        return _filled(block, weight.shape[1:]).expand(weight.shape)
    return _filled(block, weight.shape)


def _fits(size: int, device: torch.device) -> bool:
    """Whether the experts of a layer, of this size, are drawn one by one."""
    if device.type == "cpu":
        return size <= _EXPERT_BYTES
    free = available_bytes(device)
    return free is not None and size <= free // 2


def _filled(block: Tensor, shape: torch.Size) -> Tensor:
    count = shape.numel()
    return block.repeat(-(-count // len(block)))[:count].view(shape)


def _assign(model: nn.Module, name: str, values: Tensor) -> None:
    module, _, last = name.rpartition(".")
    setattr(model.get_submodule(module), last, nn.Parameter(values, requires_grad=False))
