"""The recorder of router logits, choices, weights and attention of a call in the rows of a trace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.instruments.attention_packing import attention_sums, pack_attention
from mixtral_probe.instruments.copier import Copier, HostCopier
from mixtral_probe.instruments.routing_buffer import RoutingBuffer
from mixtral_probe.instruments.routing_check import nonfinite_error, nonfinite_routing
from mixtral_probe.model import AttentionSlice, ForwardContext, Instrument, Routing, Site
from mixtral_probe.trace import AttentionPlan, TraceBuilder
from mixtral_probe.trace.finite import Nonfinite


@dataclass(frozen=True, slots=True)
class Window:
    """One row of a batch: a window of a document, from the batch's first position on."""

    document: int
    chunk: int
    start: int
    """The window's first row in the trace."""
    length: int


class Recorder(Instrument):
    """Writes the values of one forward call into a ``TraceBuilder``; call ``finish`` after it.

    Args:
        builder: of the trace.
        windows: the window of each batch row, left-aligned; positions beyond its length are padding.
        positions: S of the call.
        copier: copies values to the host.
        nonfinite: whether ``finish`` refuses tokens whose routing is not finite, or they have no choice in the trace.
        edited: whether edits are attached to the call.
    """

    def __init__(
        self, builder: TraceBuilder, windows: Sequence[Window], positions: int, copier: Copier | None = None,
        *, nonfinite: Nonfinite = "refuse", edited: bool = False,
    ) -> None:  # fmt: skip
        self.builder, self.windows = builder, windows
        self._nonfinite, self._edited = nonfinite, edited
        self.copier: Copier = copier or HostCopier()
        self.plan: AttentionPlan | None = builder.attention_plan
        self._launched = False
        inside = [np.arange(w.length) for w in windows]
        self._rows = _as_slice(np.concatenate([w.start + i for w, i in zip(windows, inside, strict=True)]))
        flat = np.concatenate([row * positions + i for row, i in enumerate(inside)])
        tokens = None if len(flat) == len(windows) * positions else torch.from_numpy(flat)
        num_layers, _, top_k = builder.expert_ids.shape
        num_experts = 0 if builder.router_logits is None else builder.router_logits.shape[-1]
        self._routing = RoutingBuffer(num_layers, num_experts, top_k, tokens)
        self._bad = np.zeros((num_layers, len(flat)), bool)

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for router logits and routing of every layer, and attention of the planned layers."""
        if site is Site.ATTENTION_WEIGHTS:
            return self.plan is not None and layer in self.plan.layers
        return site is Site.ROUTING or (site is Site.ROUTER_LOGITS and self.builder.router_logits is not None)

    def heads(self, layer: int) -> Sequence[int]:
        """Return the planned heads of a layer."""
        return self.plan.layers.get(layer, ()) if self.plan else ()

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Write the value and return it unchanged."""
        if site is Site.ROUTER_LOGITS:
            self._routing.put(layer, self._routing.logits, value)
        elif site is Site.ROUTING:
            chosen = widened(value, self.builder.expert_ids.shape[-1])
            self._routing.put(layer, self._routing.ids, chosen.expert_ids)
            self._routing.put(layer, self._routing.weights, chosen.weights)
            self._routing.put(layer, self._routing.flag, nonfinite_routing(value, self._edited)[:, None])
        else:
            self._write_attention(layer, value)
        return value

    def launch(self) -> None:
        """Begin to copy the routing of the call, which has ended; ``finish`` does so where it was not called."""
        self._routing.copy(self.copier, self._write)
        self._launched = True

    def finish(self) -> None:
        """Wait until all values are in the arrays of the builder.

        Raises:
            InputError: the routing of a token is not finite, and such tokens are refused.
        """
        if not self._launched:
            self.launch()
        self.copier.finish()
        if self._nonfinite == "refuse" and self._bad.any():
            layer, token = (int(place) for place in np.argwhere(self._bad)[0])
            row = int(np.arange(len(self.builder.tokens))[self._rows][token])
            dtype = str(self.builder.meta.dtype)
            raise nonfinite_error(layer, token_in_words(self.builder, row), dtype, can_skip=True)

    def _write(self, layer: int, values: np.ndarray) -> None:
        """Write the rows [n, E + 2 K + 1] of a layer."""
        routing, builder = self._routing, self.builder
        bad = self._bad[layer] = values[:, routing.flag][:, 0] != 0
        builder.expert_ids[layer, self._rows] = np.where(bad[:, None], -1, values[:, routing.ids])
        builder.expert_weights[layer, self._rows] = np.where(bad[:, None], 0, values[:, routing.weights])
        if builder.router_logits is not None:
            builder.router_logits[layer, self._rows] = values[:, routing.logits]

    def _write_attention(self, layer: int, attention: AttentionSlice) -> None:
        assert self.plan is not None
        assert self.builder.attention_sums is not None
        planned = self.plan.layers[layer]
        heads = [head for head in attention.heads if head in planned]
        weights = attention.of(heads)
        for row, window in enumerate(self.windows):
            packed = pack_attention(weights[row, :, : window.length, : window.length])
            for name, value in attention_sums(packed, window.length, window.length).items():
                self.copier.copy(value, partial(self._add_sum, name, window.document, layer, heads))
            if heads[0] == planned[0]:
                self.builder.attention_sums["tokens"][layer, window.document] += window.length
            if self.plan.maps:
                place = (window.document, window.chunk, layer)
                self.copier.copy(packed.half(), partial(self._write_maps, place, heads))

    def _write_maps(self, place: tuple[int, int, int], heads: Sequence[int], value: Tensor) -> None:
        self.builder.write_attention(*place, heads, value.numpy())

    def _add_sum(self, name: str, document: int, layer: int, heads: list[int], value: Tensor) -> None:
        assert self.builder.attention_sums is not None
        self.builder.attention_sums[name][layer, document, heads] += value.numpy()


def token_in_words(builder: TraceBuilder, row: int) -> str:
    """Return the piece of a row, its position and its document."""
    token = builder.tokens.iloc[row]
    window = f" of window {token['chunk']}" if token["chunk"] else ""
    document = builder.documents["id"].iloc[token["document"]]
    return f"the token {token['piece']!r} at position {token['position']}{window} of the document {document!r}"


def widened(routing: Routing, size: int) -> Routing:
    """Pad a choice of at most ``size`` experts to ``size``, with ids −1 and weights 0."""
    missing = size - routing.expert_ids.shape[1]
    if not missing:
        return routing
    if missing < 0:
        raise InputError(f"this record has room for {size} experts per token, got {size - missing} from an edit")
    ids, weights = F.pad(routing.expert_ids, (0, missing), value=-1), F.pad(routing.weights, (0, missing))
    return replace(routing, expert_ids=ids, weights=weights)


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """The same rows as a slice where one follows the other, which is faster to write."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) and (np.diff(rows) == 1).all() else rows
