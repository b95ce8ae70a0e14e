"""The recorder of a generation, whose length is unknown before it ends: it stores the values of every call."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments.attention_packing import attention_sums, pack_attention
from mixtral_probe.instruments.copier import Copier, HostCopier
from mixtral_probe.instruments.routing_check import nonfinite_routing
from mixtral_probe.model import AttentionSlice, ForwardContext, Instrument, Routing, Site
from mixtral_probe.trace import AttentionPlan


@dataclass(slots=True)
class RecordedCall:
    """The values of one forward call over N rows of n tokens, by layer."""

    router_logits: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, E] float32."""
    expert_ids: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, K] int64."""
    expert_weights: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, K] float32."""
    nonfinite: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n] bool, the rows whose routing is not finite; padding may be among them."""
    attention_sums: dict[tuple[int, int, str], list[np.ndarray]] = field(default_factory=dict)
    """By layer, row and name, each slice's [heads] float64: summed over the row's queries in this call."""
    attention_maps: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict)
    """By layer and row, each slice's [heads, …] float16: the visible keys of each query, one query after the other."""


class GenerationRecorder(Instrument):
    """Records router logits, routing and planned attention of each call; call ``finish`` after the last.

    Args:
        plan: the layers and heads whose attention to keep.
        padding: the number of padding positions of each prompt, on the left. In a call over more rows than prompts,
            each prompt has several rows, one after the other.
        router_logits: whether to keep them.
        copier: copies values to the host.
        edited: whether edits are attached to the calls.
    """

    def __init__(
        self,
        plan: AttentionPlan | None,
        padding: Sequence[int],
        router_logits: bool = True,
        copier: Copier | None = None,
        *,
        edited: bool = False,
    ) -> None:
        self._edited = edited
        self.plan, self.router_logits = plan, router_logits
        self.copier: Copier = copier or HostCopier()
        self.calls: list[RecordedCall] = []
        self._padding = padding

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for router logits and routing of every layer, and attention of the planned layers."""
        if site is Site.ATTENTION_WEIGHTS:
            return self.plan is not None and layer in self.plan.layers
        return site is Site.ROUTING or (site is Site.ROUTER_LOGITS and self.router_logits)

    def heads(self, layer: int) -> Sequence[int]:
        """Return the planned heads of a layer."""
        return self.plan.layers.get(layer, ()) if self.plan else ()

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Store the value and return it unchanged."""
        while len(self.calls) <= context.step:
            self.calls.append(RecordedCall())
        recorded, positions = self.calls[context.step], context.positions.shape[-1]
        if site is Site.ROUTER_LOGITS:
            self._keep(recorded.router_logits, layer, value, positions)
        elif site is Site.ROUTING:
            self._keep_routing(recorded, layer, value, positions)
        else:
            self._keep_attention(recorded, layer, value)
        return value

    def finish(self) -> list[RecordedCall]:
        """Wait for all copies and return the calls in order."""
        self.copier.finish()
        return self.calls

    def _keep_routing(self, recorded: RecordedCall, layer: int, routing: Routing, positions: int) -> None:
        self._keep(recorded.nonfinite, layer, nonfinite_routing(routing, self._edited), positions)
        self._keep(recorded.expert_ids, layer, routing.expert_ids, positions)
        self._keep(recorded.expert_weights, layer, routing.weights, positions)

    def _keep(self, target: dict[int, np.ndarray], layer: int, value: Tensor, positions: int) -> None:
        """Copy rows [N · n, …] of a call as [N, n, …]."""
        self.copier.copy(value.unflatten(0, (-1, positions)), partial(_set, target, layer))

    def _keep_attention(self, recorded: RecordedCall, layer: int, attention: AttentionSlice) -> None:
        assert self.plan is not None
        weights = attention.of([head for head in attention.heads if head in self.plan.layers[layer]])
        rows, queries = weights.shape[0], weights.shape[2]
        for row in range(rows):
            padding = self._padding[row * len(self._padding) // rows]
            visible = weights[row, :, padding if queries > 1 else 0 :, padding:]
            packed = pack_attention(visible)
            for name, value in attention_sums(packed, *visible.shape[1:]).items():
                self.copier.copy(value, partial(_append, recorded.attention_sums, (layer, row, name)))
            if self.plan.maps:
                self.copier.copy(packed.half(), partial(_append, recorded.attention_maps, (layer, row)))


def _set(target: dict[int, np.ndarray], layer: int, value: Tensor) -> None:
    target[layer] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _append(target: dict[Any, list[np.ndarray]], key: Any, value: Tensor) -> None:
    target.setdefault(key, []).append(value.numpy())
