"""Mixtral with its language head."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.collector import LayerChoice
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.generation import Generates
from mixtral_probe.model.generation.precedence import stored_in
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.inputs import kept_positions
from mixtral_probe.model.losses import LOSS_ARGUMENTS, load_balancing_loss_pooled, next_token_loss
from mixtral_probe.model.model import MixtralModel, initialise
from mixtral_probe.model.outputs import CausalLMOutput
from mixtral_probe.model.sites import MODEL, Instrument, Site


class MixtralForCausalLM(Generates):
    """Predicts the next token. Arguments as in ``MixtralModel``."""

    loss_type = "ForCausalLM"
    """The name of its loss in transformers, whose Trainer counts by it the labels that have a prediction."""

    decoder_class = MixtralModel
    """Of the decoder stack."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        self.model, self.numerics = self.decoder_class(config, numerics), numerics
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise(self.lm_head, config)
        self.tie_weights()
        self.generation_config = stored_in(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: LayerChoice | None = None,
        output_hidden_states: LayerChoice | None = None,
        output_router_logits: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        instruments: Sequence[Instrument] = (),
        return_dict: bool | None = None,
        **further: Any,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Predict next tokens; the other arguments are those of ``MixtralModel.forward``.

        Args:
            labels: [B, S] token ids, −100 where there is nothing to predict; the loss is then returned.
            output_router_logits: return them, and add the balance loss to the loss; the config has the default.
            logits_to_keep: apply the head to the last n positions only, 0 for all, or to those of an index tensor, [n]
                for all rows or [B, n].
            further: ``shift_labels`` [B, S], in place of ``labels`` the label of each position itself; and
                ``num_items_in_batch``, by which the sum of the losses is divided, in place of their number here, as
                training over several batches to a step needs; ``ignore_index`` for −100. (Those who look at the
                signature, such as transformers' Trainer, do not find them there, as in transformers.)

        Raises:
            InputError: an argument breaks a rule.
        """
        loss_arguments = {name: further.pop(name) for name in LOSS_ARGUMENTS if name in further}
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
            output_attentions, output_hidden_states, output_router_logits, instruments, return_dict=True, **further,
        )  # fmt: skip
        logits = self.head(kept_positions(out.last_hidden_state, logits_to_keep), out.context, instruments)
        loss, aux = next_token_loss(logits, labels, **loss_arguments), None
        if out.router_logits is not None:
            aux = load_balancing_loss_pooled(out.router_logits, self.config.num_experts_per_tok, out.context.valid)
            loss = None if loss is None else loss + self.config.router_aux_loss_coef * aux.to(loss.device)
        output = CausalLMOutput(
            loss=loss, aux_loss=aux, logits=logits, past_key_values=out.past_key_values,
            hidden_states=out.hidden_states, attentions=out.attentions, router_logits=out.router_logits,
            last_layer_output=out.last_layer_output,
        )  # fmt: skip
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def head(self, hidden: Tensor, context: ForwardContext, instruments: Sequence[Instrument] = ()) -> Tensor:
        """Logits [B, n, V] of final hidden states [B, n, C]."""
        hidden = hidden.to(self.lm_head.weight.device)
        return Hooks(instruments, MODEL, context).run(Site.LOGITS, self.lm_head, hidden)
