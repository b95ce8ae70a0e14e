"""Router logits, weights, ids and a flag of all layers of a call, together on the device: one copy brings them over."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments.copier import Copier, on_device

Write = Callable[[int, np.ndarray], None]
"""Takes a layer and its rows [n, E + 2 K + 1]."""


class RoutingBuffer:
    """[L, n, E + 2 K + 1] float32: logits, weights, ids (exact below 2^24) and a flag of the n tokens of a call.

    Args:
        num_layers: L.
        num_experts: E; 0 where logits are not recorded.
        top_k: K.
        tokens: [n] the rows of the call that are tokens; None for all.
    """

    def __init__(self, num_layers: int, num_experts: int, top_k: int, tokens: Tensor | None) -> None:
        self._shape, self._tokens = (num_layers, num_experts + 2 * top_k + 1), tokens
        ends = np.cumsum([0, num_experts, top_k, top_k, 1]).tolist()
        self.logits, self.weights, self.ids, self.flag = (slice(*pair) for pair in pairwise(ends))
        """The columns of each."""
        self._buffers: dict[torch.device, tuple[Tensor, Tensor | None, list[int]]] = {}

    def put(self, layer: int, columns: slice, values: Tensor) -> None:
        """Keep some columns of a layer, of the rows [B·S, columns] of a call."""
        buffer, tokens, layers = self._on(values)
        buffer[layer, :, columns].copy_(values if tokens is None else values.index_select(0, tokens))
        if not layers or layers[-1] != layer:
            layers.append(layer)

    def copy(self, copier: Copier, write: Write) -> None:
        """Copy what was kept to the host, one copy for each device of the model, and pass it on layer by layer."""
        for buffer, _, layers in self._buffers.values():
            copier.copy(buffer, partial(_write_layers, layers, write))

    def _on(self, values: Tensor) -> tuple[Tensor, Tensor | None, list[int]]:
        device = values.device
        if device not in self._buffers:
            rows = len(values) if self._tokens is None else len(self._tokens)
            tokens = None if self._tokens is None else on_device(self._tokens, device)
            (num_layers, columns) = self._shape
            self._buffers[device] = torch.empty(num_layers, rows, columns, device=device), tokens, []
        return self._buffers[device]


def _write_layers(layers: list[int], write: Write, values: Tensor) -> None:
    for layer in layers:
        write(layer, values[layer].numpy())
