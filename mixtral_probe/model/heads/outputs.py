"""Outputs of the task heads."""

from torch import Tensor

from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.outputs import ByLayer, Output


class HeadOutput(Output):
    """The fields of all three; items begin as those of transformers, then the routing follows."""

    loss: Tensor | None
    """The head's loss, plus router_aux_loss_coef · aux_loss when router logits were requested."""
    hidden_states: ByLayer | None
    """As in ``ModelOutput``, like the rest."""
    attentions: ByLayer | None
    router_logits: tuple[Tensor, ...] | None
    aux_loss: Tensor | None
    """The pooled balance loss, K at balance."""
    past_key_values: KVCache | None
    """An item of sequence classification only, as in transformers."""
    last_layer_output: Tensor | None = None


class SequenceClassifierOutput(HeadOutput):
    """The output of sequence classification."""

    _order = ("loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits", "aux_loss")

    logits: Tensor
    """[B, N]; N labels."""


class TokenClassifierOutput(HeadOutput):
    """The output of token classification."""

    _order = ("loss", "logits", "hidden_states", "attentions", "router_logits", "aux_loss")

    logits: Tensor
    """[B, S, N]; N labels."""


class QuestionAnsweringOutput(HeadOutput):
    """The output of question answering."""

    _order = ("loss", "start_logits", "end_logits", "hidden_states", "attentions", "router_logits", "aux_loss")

    start_logits: Tensor
    """[B, S]: the score of each position as the first of the answer."""
    end_logits: Tensor
    """[B, S]: its score as the last."""
