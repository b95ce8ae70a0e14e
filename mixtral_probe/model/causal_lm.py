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
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.inputs import kept_positions, require_labels
from mixtral_probe.model.losses import load_balancing_loss_pooled, next_token_loss
from mixtral_probe.model.model import MixtralModel, initialise
from mixtral_probe.model.outputs import CausalLMOutput
from mixtral_probe.model.sites import MODEL, Instrument, Site


class MixtralForCausalLM(Generates):
    """Predicts the next token. Arguments as in ``MixtralModel``."""

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        self.config, self.numerics = config, numerics
        self.model = MixtralModel(config, numerics)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        initialise(self.lm_head, config)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

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
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Predict next tokens; the other arguments are those of ``MixtralModel.forward``.

        Args:
            labels: [B, S] token ids, −100 where there is nothing to predict; the loss is then returned.
            output_router_logits: return them, and add the balance loss to the loss; the config has the default.
            logits_to_keep: apply the head to the last n positions only, 0 for all, or to those of an index tensor, [n]
                for all rows or [B, n].

        Raises:
            InputError: an argument breaks a rule.
        """
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
            output_attentions, output_hidden_states, output_router_logits, instruments, return_dict=True,
        )  # fmt: skip
        logits = self.head(kept_positions(out.last_hidden_state, logits_to_keep), out.context, instruments)
        loss = aux = None
        if labels is not None:
            require_labels(labels, logits)
            loss = next_token_loss(logits, labels)
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
