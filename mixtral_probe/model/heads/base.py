"""The base class of models with a task head."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.heads.outputs import HeadOutput
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.losses import load_balancing_loss_pooled
from mixtral_probe.model.model import MixtralModel, initialise
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.model.sites import MODEL, Instrument, Site

Kind = TypeVar("Kind", bound=HeadOutput)


class TaskModel(BaseModel):
    """The decoder stack, with the logits and outputs of a task head."""

    decoder_class = MixtralModel
    """Of the decoder stack."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        self.model, self.numerics = self.decoder_class(config, numerics), numerics

    def _logits(self, head: nn.Linear, hidden: Tensor, out: ModelOutput, instruments: Sequence[Instrument]) -> Tensor:
        """Logits [B, S, N] of hidden states [B, S, C]."""
        hidden = hidden.to(head.weight.device)
        logits: Tensor = Hooks(instruments, MODEL, out.context).run(Site.LOGITS, head, hidden)
        return logits

    def _output(
        self, kind: type[Kind], out: ModelOutput, loss: Tensor | None, return_dict: bool | None, **logits: Tensor
    ) -> Kind | tuple[Any, ...]:
        """The output; the balance loss is added to the head's as in the language model."""
        aux = None
        if out.router_logits is not None:
            aux = load_balancing_loss_pooled(out.router_logits, self.config.num_experts_per_tok, out.context.valid)
            if loss is not None:
                loss = loss + self.config.router_aux_loss_coef * aux.to(loss.device)
        output = kind(
            loss=loss, aux_loss=aux, past_key_values=out.past_key_values, hidden_states=out.hidden_states,
            attentions=out.attentions, router_logits=out.router_logits, last_layer_output=out.last_layer_output,
            **logits,
        )  # fmt: skip
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()


def task_head(config: MixtralConfig, outputs: int, bias: bool) -> nn.Linear:
    """A new head of C → ``outputs``, with a bias of 0 where it has one."""
    layer = nn.Linear(config.hidden_size, outputs, bias=bias)
    initialise(layer, config)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
