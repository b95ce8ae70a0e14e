"""The recorder of a generation, whose length nobody knows before it ends: it keeps what every call showed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments.attention_packing import attention_sums, pack_attention
from mixtral_probe.instruments.copier import Copier, HostCopier
from mixtral_probe.model import AttentionSlice, ForwardContext, Instrument, Routing, Site
from mixtral_probe.trace import AttentionPlan


@dataclass(slots=True)
class RecordedCall:
    """What one forward call over N rows of n tokens showed, by layer."""

    router_logits: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, E] float32."""
    expert_ids: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, K] int64."""
    expert_weights: dict[int, np.ndarray] = field(default_factory=dict)
    """[N, n, K] float32."""
    attention_sums: dict[tuple[int, int, str], list[np.ndarray]] = field(default_factory=dict)
    """By layer, row and name, each slice's [heads] float64: summed over the row's queries in this call."""
    attention_maps: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict)
    """By layer and row, each slice's [heads, …] float16: what each query can see, one query after the other."""


class GenerationRecorder(Instrument):
    """Keeps router logits, routing and planned attention of each call; ``finish`` comes after the last.

    Args:
        plan: layers and heads whose attention is kept.
        padding: for each prompt, how many positions on the left are padding. A call over more rows than prompts has
            several rows for each, side by side.
        router_logits: keep them.
        copier: how values reach the host.
    """

    def __init__(
        self,
        plan: AttentionPlan | None,
        padding: Sequence[int],
        router_logits: bool = True,
        copier: Copier | None = None,
    ) -> None:
        self.plan, self.router_logits = plan, router_logits
        self.copier: Copier = copier or HostCopier()
        self.calls: list[RecordedCall] = []
        self._padding = padding

    def wants(self, site: Site, layer: int) -> bool:
        """Router logits and routing of every layer, attention of the planned layers."""
        if site is Site.ATTENTION_WEIGHTS:
            return self.plan is not None and layer in self.plan.layers
        return site is Site.ROUTING or (site is Site.ROUTER_LOGITS and self.router_logits)

    def heads(self, layer: int) -> Sequence[int]:
        """The planned heads of a layer."""
        return self.plan.layers.get(layer, ()) if self.plan else ()

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the value and return it unchanged."""
        while len(self.calls) <= context.step:
            self.calls.append(RecordedCall())
        seen, positions = self.calls[context.step], context.positions.shape[-1]
        if site is Site.ROUTER_LOGITS:
            self._keep(seen.router_logits, layer, value, positions)
        elif site is Site.ROUTING:
            self._keep_routing(seen, layer, value, positions)
        else:
            self._keep_attention(seen, layer, value)
        return value

    def finish(self) -> list[RecordedCall]:
        """Wait until everything seen is here; returns the calls in order."""
        self.copier.finish()
        return self.calls

    def _keep_routing(self, seen: RecordedCall, layer: int, routing: Routing, positions: int) -> None:
        self._keep(seen.expert_ids, layer, routing.expert_ids, positions)
        self._keep(seen.expert_weights, layer, routing.weights, positions)

    def _keep(self, kept: dict[int, np.ndarray], layer: int, value: Tensor, positions: int) -> None:
        """Rows [N · n, …] of a call as [N, n, …]."""
        self.copier.copy(value.unflatten(0, (-1, positions)), partial(_set, kept, layer))

    def _keep_attention(self, seen: RecordedCall, layer: int, shown: AttentionSlice) -> None:
        assert self.plan is not None
        weights = shown.of([head for head in shown.heads if head in self.plan.layers[layer]])
        rows, queries = weights.shape[0], weights.shape[2]
        for row in range(rows):
            padding = self._padding[row * len(self._padding) // rows]
            own = weights[row, :, padding if queries > 1 else 0 :, padding:]
            packed = pack_attention(own)
            for name, value in attention_sums(packed, *own.shape[1:]).items():
                self.copier.copy(value, partial(_append, seen.attention_sums, (layer, row, name)))
            if self.plan.maps:
                self.copier.copy(packed.half(), partial(_append, seen.attention_maps, (layer, row)))


def _set(kept: dict[int, np.ndarray], layer: int, value: Tensor) -> None:
    kept[layer] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _append(kept: dict[Any, list[np.ndarray]], key: Any, value: Tensor) -> None:
    kept.setdefault(key, []).append(value.numpy())
