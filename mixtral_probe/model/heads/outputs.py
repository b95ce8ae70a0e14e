"""What the task heads return."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.outputs import ByLayer, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOutput(Output):
    """What all three give; the reference's tuples have the first fields, routing follows them."""

    _order: ClassVar[tuple[str, ...]]
    loss: Tensor | None = None
    """The head's loss, plus router_aux_loss_coef · aux_loss when router logits were asked for."""
    aux_loss: Tensor | None = None
    """The pooled balance loss, K at balance."""
    past_key_values: KVCache | None = None
    hidden_states: ByLayer | None = None
    """As in ``ModelOutput``, like the rest."""
    attentions: ByLayer | None = None
    router_logits: tuple[Tensor, ...] | None = None
    last_layer_output: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierOutput(HeadOutput):
    """Of sequence and token classification. What was not asked for is None."""

    _order = ("loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits", "aux_loss")

    logits: Tensor
    """[B, N] for sequences, [B, S, N] for tokens; N labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnsweringOutput(HeadOutput):
    """Of question answering. What was not asked for is None."""

    _order = (
        "loss", "start_logits", "end_logits", "past_key_values", "hidden_states", "attentions", "router_logits",
        "aux_loss",
    )  # fmt: skip

    start_logits: Tensor
    """[B, S]: how likely the answer begins at each position."""
    end_logits: Tensor
    """[B, S]: how likely it ends there."""
