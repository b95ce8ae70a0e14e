"""Mixtral that classifies sequences."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.heads.base import TaskModel, task_head
from mixtral_probe.model.heads.losses import sequence_loss
from mixtral_probe.model.heads.outputs import SequenceClassifierOutput
from mixtral_probe.model.sites import Instrument


class MixtralForSequenceClassification(TaskModel):
    """One prediction per sequence, read from its last token. The config has its size, ``num_labels``."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        self.score = task_head(config, config.num_labels, bias=False)

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
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Classify sequences; the other arguments are those of ``MixtralModel.forward``.

        The prediction is that of the rightmost token that is not ``pad_token_id``, or, with embeddings, that the
        attention mask does not hide.

        Args:
            labels: [B] integers, [B, N] of 0 and 1, or numbers, as the config's ``problem_type`` says; without one,
                N = 1 is regression, integers are single labels, and anything else several labels.
            options: ``use_cache``, ``output_attentions``, ``output_hidden_states`` and ``output_router_logits``, which
                adds the balance loss to the loss.

        Raises:
            InputError: several sequences without a ``pad_token_id`` in the config, or labels that do not fit.
        """
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, instruments=instruments,
            return_dict=True, **options,
        )  # fmt: skip
        logits = self._logits(self.score, out.last_hidden_state, out, instruments)
        last = self._last(input_ids, out.context.valid, logits)
        logits = logits[torch.arange(len(logits), device=logits.device), last]
        loss = None if labels is None else sequence_loss(logits, labels, self.config.problem_type)
        return self._output(SequenceClassifierOutput, out, loss, return_dict, logits=logits)

    def _last(self, input_ids: Tensor | None, valid: Tensor | None, logits: Tensor) -> Tensor | int:
        """[B], or −1 for the last position of all: where each sequence ends."""
        pad = self.config.pad_token_id
        if pad is None:
            if len(logits) != 1:
                raise InputError(
                    f"{len(logits)} sequences need a pad_token_id in the config, to find where each ends, "
                    "got None; set it or pass one sequence"
                )
            return -1
        kept = valid if input_ids is None else input_ids != pad
        if kept is None:
            return -1
        positions = torch.arange(kept.shape[1], device=logits.device)
        return (positions * kept.to(logits.device)).argmax(-1)
