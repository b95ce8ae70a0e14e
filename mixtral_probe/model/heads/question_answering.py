"""Mixtral that finds answers in a text."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.heads.base import TaskModel, task_head
from mixtral_probe.model.heads.losses import span_loss
from mixtral_probe.model.heads.outputs import QuestionAnsweringOutput
from mixtral_probe.model.sites import Instrument


class MixtralForQuestionAnswering(TaskModel):
    """Finds where in a text an answer begins and ends."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        self.qa_outputs = task_head(config, 2, bias=True)

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
            start_positions, end_positions: [B], the answer's first and last position; S or more is left out
                of the loss; both or neither must be given.
            options: ``use_cache``, ``output_attentions``, ``output_hidden_states`` and ``output_router_logits``, which
                adds the balance loss to the loss; ``num_items_in_batch``, what the sum of the losses is divided by.

        Raises:
            InputError: one of the two positions alone, or another shape.
        """
        if (start_positions is None) != (end_positions is None):
            raise InputError(
                "start_positions and end_positions must be given together, got one of them; pass both or neither"
            )
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, instruments=instruments,
            return_dict=True, **options,
        )  # fmt: skip
        start, end = self._logits(self.qa_outputs, out.last_hidden_state, out, instruments).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            items = options.get("num_items_in_batch")
            loss = span_loss(start, end, start_positions, end_positions, items)
        start, end = start.contiguous(), end.contiguous()
        return self._output(QuestionAnsweringOutput, out, loss, return_dict, start_logits=start, end_logits=end)
