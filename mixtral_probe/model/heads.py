"""Mixtral with heads for classification and question answering.

The reference drops router logits in these three; here they and the balance loss come back when asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention import Numerics
from mixtral_probe.model.cache import KVCache
from mixtral_probe.model.head_losses import sequence_loss, span_loss, token_loss
from mixtral_probe.model.losses import load_balancing_loss_pooled
from mixtral_probe.model.model import MixtralModel, initialise
from mixtral_probe.model.outputs import ByLayer, ModelOutput, Output
from mixtral_probe.model.sites import MODEL, Instrument, Site, Visitors

Kind = TypeVar("Kind", bound="_HeadOutput")


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeadOutput(Output):
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
class ClassifierOutput(_HeadOutput):
    """Of sequence and token classification. What was not asked for is None."""

    _order = ("loss", "logits", "past_key_values", "hidden_states", "attentions", "router_logits", "aux_loss")

    logits: Tensor
    """[B, N] for sequences, [B, S, N] for tokens; N labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnsweringOutput(_HeadOutput):
    """Of question answering. What was not asked for is None."""

    _order = (
        "loss", "start_logits", "end_logits", "past_key_values", "hidden_states", "attentions", "router_logits",
        "aux_loss",
    )  # fmt: skip

    start_logits: Tensor
    """[B, S]: how likely the answer begins at each position."""
    end_logits: Tensor
    """[B, S]: how likely it ends there."""


class _Headed(nn.Module):
    """The decoder stack, and what its heads have in common."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        self.config, self.numerics = config, numerics
        self.model = MixtralModel(config, numerics)

    def _scored(self, head: nn.Linear, hidden: Tensor, out: ModelOutput, instruments: Sequence[Instrument]) -> Tensor:
        """Logits [B, S, N] of hidden states [B, S, C]."""
        hidden = hidden.to(head.weight.device)
        scored: Tensor = Visitors(instruments, MODEL, out.call).make(Site.LOGITS, head, hidden)
        return scored

    def _finished(
        self, kind: type[Kind], out: ModelOutput, loss: Tensor | None, return_dict: bool | None, **logits: Tensor
    ) -> Kind | tuple[Any, ...]:
        """The output; the balance loss joins the head's as it does the language model's."""
        aux = None
        if out.router_logits is not None:
            aux = load_balancing_loss_pooled(out.router_logits, self.config.num_experts_per_tok, out.call.valid)
            if loss is not None:
                loss = loss + self.config.router_aux_loss_coef * aux.to(loss.device)
        made = kind(
            loss=loss, aux_loss=aux, past_key_values=out.past_key_values, hidden_states=out.hidden_states,
            attentions=out.attentions, router_logits=out.router_logits, last_layer_output=out.last_layer_output,
            **logits,
        )  # fmt: skip
        return made if (self.config.return_dict if return_dict is None else return_dict) else made.to_tuple()


class MixtralForSequenceClassification(_Headed):
    """One prediction per sequence, read from its last token. The config's ``num_labels`` says of how many numbers."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        self.score = _linear(config, config.num_labels, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        instruments: Sequence[Instrument] = (),
        return_dict: bool | None = None,
        **options: Any,
    ) -> ClassifierOutput | tuple[Any, ...]:
        """Classify sequences; the other arguments are those of ``MixtralModel.forward``.

        The prediction is made at the rightmost token that is not ``pad_token_id``, or, of embeddings, that the
        attention mask does not hide.

        Args:
            labels: [B] integers, [B, N] of 0 and 1, or numbers, as the config's ``problem_type`` has it; without one,
                N = 1 is regression, integers are single labels, and the rest is several labels at once.
            options: ``use_cache``, ``output_attentions``, ``output_hidden_states`` and ``output_router_logits``, which
                adds the balance loss to the loss.

        Raises:
            InputError: several sequences without a ``pad_token_id`` in the config, or labels that do not fit.
        """
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, instruments=instruments,
            return_dict=True, **options,
        )  # fmt: skip
        logits = self._scored(self.score, out.last_hidden_state, out, instruments)
        last = self._last(input_ids, out.call.valid, logits)
        logits = logits[torch.arange(len(logits), device=logits.device), last]
        loss = None if labels is None else sequence_loss(logits, labels, self.config.problem_type)
        return self._finished(ClassifierOutput, out, loss, return_dict, logits=logits)

    def _last(self, input_ids: Tensor | None, valid: Tensor | None, logits: Tensor) -> Tensor | int:
        """[B], or −1 for the last position of all: where each sequence ends."""
        pad = self.config.pad_token_id
        if pad is None:
            if len(logits) != 1:
                raise InputError(
                    f"several sequences need a pad_token_id in the config, to tell where each ends, "
                    f"but it is None and {len(logits)} sequences came"
                )
            return -1
        kept = valid if input_ids is None else input_ids != pad
        if kept is None:
            return -1
        positions = torch.arange(kept.shape[1], device=logits.device)
        return (positions * kept.to(logits.device)).argmax(-1)


class MixtralForTokenClassification(_Headed):
    """One prediction per token. The config's ``num_labels`` says of how many numbers.

    ``classifier_dropout`` of the config, else ``hidden_dropout``, else 0.1, is the dropout before the head in training.
    """

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        rates = (_field(config, "classifier_dropout"), _field(config, "hidden_dropout"), 0.1)
        self.dropout = nn.Dropout(next(rate for rate in rates if rate is not None))
        bias = _field(config, "token_classification_bias")
        self.score = _linear(config, config.num_labels, bias=True if bias is None else bias)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        instruments: Sequence[Instrument] = (),
        return_dict: bool | None = None,
        **options: Any,
    ) -> ClassifierOutput | tuple[Any, ...]:
        """Classify tokens; the other arguments are those of ``MixtralModel.forward``.

        Args:
            labels: [B, S] integers, −100 where there is none.
            options: ``use_cache``, ``output_attentions``, ``output_hidden_states`` and ``output_router_logits``, which
                adds the balance loss to the loss.

        Raises:
            InputError: labels that do not fit.
        """
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, instruments=instruments,
            return_dict=True, **options,
        )  # fmt: skip
        logits = self._scored(self.score, self.dropout(out.last_hidden_state), out, instruments)
        loss = None if labels is None else token_loss(logits, labels)
        return self._finished(ClassifierOutput, out, loss, return_dict, logits=logits)


class MixtralForQuestionAnswering(_Headed):
    """Where in the text an answer begins and ends."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        self.qa_outputs = _linear(config, 2, bias=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        instruments: Sequence[Instrument] = (),
        return_dict: bool | None = None,
        **options: Any,
    ) -> QuestionAnsweringOutput | tuple[Any, ...]:
        """Find answers; the other arguments are those of ``MixtralModel.forward``.

        Args:
            start_positions, end_positions: [B], the answer's first and last position; S or more has no part in the
                loss, and one without the other is a mistake.
            options: ``use_cache``, ``output_attentions``, ``output_hidden_states`` and ``output_router_logits``, which
                adds the balance loss to the loss.

        Raises:
            InputError: one of the two positions alone, or another shape.
        """
        if (start_positions is None) != (end_positions is None):
            raise InputError("start_positions and end_positions go together, but only one of them was given")
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, instruments=instruments,
            return_dict=True, **options,
        )  # fmt: skip
        start, end = self._scored(self.qa_outputs, out.last_hidden_state, out, instruments).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start, end, start_positions, end_positions)
        start, end = start.contiguous(), end.contiguous()
        return self._finished(QuestionAnsweringOutput, out, loss, return_dict, start_logits=start, end_logits=end)


def _linear(config: MixtralConfig, outputs: int, bias: bool) -> nn.Linear:
    layer = nn.Linear(config.hidden_size, outputs, bias=bias)
    initialise(layer, config)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _field(config: MixtralConfig, name: str) -> Any:
    """A field that the config may not know."""
    return getattr(config, name, None)
