"""What a forward call returns."""

from dataclasses import dataclass

from torch import Tensor

from mixtral_probe.model.cache import KVCache
from mixtral_probe.model.sites import Call


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Of the base model. What was not asked for is None."""

    last_hidden_state: Tensor
    """[B, S, C], after the final norm."""
    call: Call
    """Positions, masks and phase of the call, for who works on with its result."""
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    """L + 1 of [B, S, C]: the embeddings, each layer's output, the last one after the final norm."""
    attentions: tuple[Tensor, ...] | None = None
    """L of [B, H, S, M], after the softmax."""
    router_logits: tuple[Tensor, ...] | None = None
    """L of [B·S, E], raw."""


@dataclass(frozen=True, slots=True)
class CausalLMOutput:
    """Of the language model. What was not asked for is None."""

    logits: Tensor
    """[B, kept, V]."""
    loss: Tensor | None = None
    """Cross entropy in nats, plus router_aux_loss_coef · aux_loss when router logits were asked for."""
    aux_loss: Tensor | None = None
    """The pooled balance loss, K at balance."""
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
