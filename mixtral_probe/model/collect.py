"""The instrument behind ``output_hidden_states``, ``output_attentions`` and ``output_router_logits``."""

from typing import Any

import torch
from torch import Tensor

from mixtral_probe.model.sites import MODEL, Call, Site


class Collector:
    """Keeps what the caller of ``forward`` asked to be returned."""

    def __init__(self, hidden_states: bool, attentions: bool, router_logits: bool) -> None:
        self.hidden_states: list[Tensor] | None = [] if hidden_states else None
        self.attentions: list[list[Tensor]] | None = [] if attentions else None
        self.router_logits: list[Tensor] | None = [] if router_logits else None
        self._attention_layer = MODEL

    @property
    def busy(self) -> bool:
        """Whether anything was asked for."""
        return any(kept is not None for kept in (self.hidden_states, self.attentions, self.router_logits))

    def wants(self, site: Site, layer: int) -> bool:
        """The sites of what was asked for."""
        return (
            (site in (Site.EMBEDDING, Site.RESIDUAL) and self.hidden_states is not None)
            or (site is Site.ATTENTION_WEIGHTS and self.attentions is not None)
            or (site is Site.ROUTER_LOGITS and self.router_logits is not None)
        )

    def visit(self, site: Site, layer: int, value: Any, call: Call) -> Any:
        """Keep the value and return it unchanged."""
        if site is Site.ROUTER_LOGITS and self.router_logits is not None:
            self.router_logits.append(value)
        elif site is Site.ATTENTION_WEIGHTS and self.attentions is not None:
            if layer != self._attention_layer:
                self.attentions.append([])
                self._attention_layer = layer
            self.attentions[-1].append(value.weights)
        elif self.hidden_states is not None:
            self.hidden_states.append(value)
        return value

    def outputs(self, last_hidden_state: Tensor) -> dict[str, tuple[Tensor, ...] | None]:
        """The fields of ``ModelOutput``; the last hidden state is the one after the final norm."""
        hidden, slices, logits = self.hidden_states, self.attentions, self.router_logits
        return {
            "hidden_states": None if hidden is None else (*hidden[:-1], last_hidden_state),
            "attentions": None if slices is None else tuple(torch.cat(parts, dim=1) for parts in slices),
            "router_logits": None if logits is None else tuple(logits),
        }
