"""The instrument behind ``output_hidden_states``, ``output_attentions`` and ``output_router_logits``."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.sites import Instrument, Site

LayerChoice = bool | int | Sequence[int]
"""All (True), none (False), or some, counted from 0 or with −1 for the last."""


class Collector(Instrument):
    """Keeps the values that ``forward`` is to return.

    Args:
        num_layers: L.
        hidden_states: which of the L + 1: 0 is the embeddings, i the output of layer i − 1.
        attentions: the layers of the attention weights.
        router_logits: whether to keep those of all layers.

    Raises:
        InputError: the model does not have a chosen layer.
    """

    def __init__(
        self, num_layers: int, hidden_states: LayerChoice, attentions: LayerChoice, router_logits: bool
    ) -> None:
        self.num_layers = num_layers
        self._hidden = _chosen_places(hidden_states, num_layers + 1, "hidden state", "hidden states")
        self._attentive = _chosen_places(attentions, num_layers, "layer", "layers")
        self._routers = router_logits
        self._hidden_states: dict[int, Tensor] = {}
        self._attentions: dict[int, list[Tensor]] = {}
        self._router_logits: list[Tensor] = []

    @classmethod
    def of(
        cls,
        config: MixtralConfig,
        hidden_states: LayerChoice | None,
        attentions: LayerChoice | None,
        router_logits: bool | None,
    ) -> "Collector":
        """The collector of a call; the config decides what is None."""
        return cls(
            config.num_hidden_layers,
            config.output_hidden_states if hidden_states is None else hidden_states,
            config.output_attentions if attentions is None else attentions,
            config.output_router_logits if router_logits is None else router_logits,
        )

    @property
    def active(self) -> bool:
        """Whether it keeps anything."""
        return self._routers or self._hidden is not None or self._attentive is not None

    def wants(self, site: Site, layer: int) -> bool:
        """The sites of the values it keeps."""
        if site in (Site.EMBEDDING, Site.RESIDUAL):
            return self._hidden is not None and layer + 1 in self._hidden
        if site is Site.ATTENTION_WEIGHTS:
            return self._attentive is not None and layer in self._attentive
        return site is Site.ROUTER_LOGITS and self._routers

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the value and return it unchanged."""
        if site is Site.ROUTER_LOGITS:
            self._router_logits.append(value)
        elif site is Site.ATTENTION_WEIGHTS:
            self._attentions.setdefault(layer, []).append(value.weights)
        else:
            self._hidden_states[layer + 1] = value
        return value

    def outputs(self, last_hidden_state: Tensor) -> dict[str, Any]:
        """The fields of ``ModelOutput``; the last hidden state is the one after the final norm."""
        last, hidden_states = self.num_layers, dict(self._hidden_states)
        raw = hidden_states.get(last)
        if raw is not None:
            hidden_states[last] = last_hidden_state
        attentions = {layer: _joined(parts) for layer, parts in self._attentions.items()}
        return {
            "hidden_states": None if self._hidden is None else tuple(map(hidden_states.get, range(last + 1))),
            "attentions": None if self._attentive is None else tuple(map(attentions.get, range(last))),
            "router_logits": tuple(self._router_logits) if self._routers else None,
            "last_layer_output": raw,
        }


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Slices of heads as one; a single one as it is, so that its gradient is that of the weights which were used."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _chosen_places(choice: LayerChoice, count: int, one: str, many: str) -> frozenset[int] | None:
    """The chosen places, counted from 0; None for no choice."""
    if isinstance(choice, bool):
        return frozenset(range(count)) if choice else None
    try:
        wanted = [index(place) for place in (choice if isinstance(choice, Iterable) else [choice])]
    except TypeError:
        raise InputError(f"{many} must be chosen by True, False or whole numbers, got {choice!r}") from None
    for place in wanted:
        if not -count <= place < count:
            raise InputError(f"{one} must be in 0–{count - 1} (this model has {count}), got {place}")
    return frozenset(place % count for place in wanted)
