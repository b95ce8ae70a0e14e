"""Mixtral with its language head."""

from collections.abc import Sequence

from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention import Numerics
from mixtral_probe.model.cache import KVCache
from mixtral_probe.model.generation import Generates
from mixtral_probe.model.losses import load_balancing_loss_pooled, next_token_loss
from mixtral_probe.model.model import MixtralModel, initialise
from mixtral_probe.model.outputs import CausalLMOutput
from mixtral_probe.model.sites import MODEL, Call, Instrument, Site, Visitors


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
        use_cache: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        output_router_logits: bool | None = None,
        logits_to_keep: int = 0,
        instruments: Sequence[Instrument] = (),
    ) -> CausalLMOutput:
        """Run tokens through the model; the other arguments are those of ``MixtralModel.forward``.

        Args:
            labels: [B, S] token ids, −100 where there is nothing to predict; adds the loss.
            output_router_logits: return them, and add the balance loss to the loss; by default as the config says.
            logits_to_keep: only the last n positions go through the head; 0 for all.
        """
        routers = self.config.output_router_logits if output_router_logits is None else output_router_logits
        out = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
            output_attentions, output_hidden_states, routers, instruments,
        )  # fmt: skip
        logits = self.head(out.last_hidden_state[:, -logits_to_keep:], out.call, instruments)
        loss = None if labels is None else next_token_loss(logits, labels)
        aux = None
        if out.router_logits:
            aux = load_balancing_loss_pooled(out.router_logits, self.config.num_experts_per_tok, out.call.valid)
        if loss is not None and aux is not None:
            loss = loss + self.config.router_aux_loss_coef * aux.to(loss.device)
        return CausalLMOutput(
            logits, loss, aux, out.past_key_values, out.hidden_states, out.attentions, out.router_logits
        )

    def head(self, hidden: Tensor, call: Call, instruments: Sequence[Instrument] = ()) -> Tensor:
        """Logits [B, n, V] of some positions of the final hidden states [B, n, C]."""
        return Visitors(instruments, MODEL, call)(Site.LOGITS, self.lm_head(hidden))
