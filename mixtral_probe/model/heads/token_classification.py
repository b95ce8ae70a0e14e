"""Mixtral that classifies tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.heads.base import TaskModel, task_head
from mixtral_probe.model.heads.losses import token_loss
from mixtral_probe.model.heads.outputs import TokenClassifierOutput
from mixtral_probe.model.sites import Instrument


class MixtralForTokenClassification(TaskModel):
    """One prediction per token. The config has its size, ``num_labels``.

    ``classifier_dropout`` of the config, else ``hidden_dropout``, else 0.1, is the dropout before the head in training.
    """

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__(config, numerics)
        rates = (_field(config, "classifier_dropout"), _field(config, "hidden_dropout"), 0.1)
        self.dropout = nn.Dropout(next(rate for rate in rates if rate is not None))
        bias = _field(config, "token_classification_bias")
        self.score = task_head(config, config.num_labels, bias=True if bias is None else bias)

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
    ) -> TokenClassifierOutput | tuple[Any, ...]:
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
        logits = self._logits(self.score, self.dropout(out.last_hidden_state), out, instruments)
        loss = None if labels is None else token_loss(logits, labels)
        return self._output(TokenClassifierOutput, out, loss, return_dict, logits=logits)


def _field(config: MixtralConfig, name: str) -> Any:
    """A field that a config may lack."""
    return getattr(config, name, None)
