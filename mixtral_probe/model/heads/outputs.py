"""Outputs of the task heads."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.outputs import ByLayer, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOutput(Output):
    """The fields of all three; tuples begin as those of transformers, then the routing follows."""

    _order: ClassVar[tuple[str, ...]]
    loss: Tensor | None = None
    """The head's loss, plus router_aux_loss_coef · aux_loss when router logits were requested."""
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
    """The output of sequence and token classification. A field that was not requested is None."""

    _order = ("loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits", "aux_loss")

    logits: Tensor
    """[B, N] for sequences, [B, S, N] for tokens; N labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnsweringOutput(HeadOutput):
    """The output of question answering. A field that was not requested is None."""

    _order = (
        "loss", "start_logits", "end_logits", "past_key_values", "hidden_states", "attentions", "router_logits",
        "aux_loss",
    )  # fmt: skip

    start_logits: Tensor
    """[B, S]: the score of each position as the first of the answer."""
    end_logits: Tensor
    """[B, S]: its score as the last."""
