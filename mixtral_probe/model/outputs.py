"""What a forward call returns."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.context import ForwardContext

ByLayer = tuple[Tensor | None, ...]
"""One entry per layer; None for a layer that is not on the list of layers."""


class Output:
    """The base class of all outputs."""

    __slots__ = ()
    _order: ClassVar[tuple[str, ...]] = ()

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in the order that transformers documents for ``return_dict=False``."""
        return tuple(value for name in self._order if (value := getattr(self, name)) is not None)


@dataclass(frozen=True, slots=True)
class ModelOutput(Output):
    """The output of the base model. A field that was not requested is None."""

    _order = ("last_hidden_state", "past_key_values", "hidden_states", "attentions", "router_logits")

    last_hidden_state: Tensor
    """[B, S, C], after the final norm."""
    context: ForwardContext
    """Positions, masks and phase of the call, for code that continues from its result."""
    past_key_values: KVCache | None = None
    hidden_states: ByLayer | None = None
    """L + 1 of [B, S, C]: the embeddings, each layer's output, the last one after the final norm."""
    attentions: ByLayer | None = None
    """L of [B, H, S, M], after the softmax."""
    router_logits: tuple[Tensor, ...] | None = None
    """L of [B·S, E], raw."""
    last_layer_output: Tensor | None = None
    """[B, S, C], the last layer's output before the final norm; returned with the last of the hidden states."""


@dataclass(frozen=True, slots=True)
class CausalLMOutput(Output):
    """The output of the language model. A field that was not requested is None."""

    _order = ("loss", "aux_loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits")

    logits: Tensor
    """[B, kept, V]."""
    loss: Tensor | None = None
    """Cross entropy in nats, plus router_aux_loss_coef · aux_loss when router logits were requested."""
    aux_loss: Tensor | None = None
    """The pooled balance loss, K at balance."""
    past_key_values: KVCache | None = None
    hidden_states: ByLayer | None = None
    """As in ``ModelOutput``, like the rest."""
    attentions: ByLayer | None = None
    router_logits: tuple[Tensor, ...] | None = None
    last_layer_output: Tensor | None = None
