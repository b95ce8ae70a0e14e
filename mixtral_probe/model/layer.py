"""One decoder layer, callable on its own."""

from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.attention import Attention, Numerics
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.moe import MixtureOfExperts
from mixtral_probe.model.norm import RMSNorm
from mixtral_probe.model.sites import Site


class DecoderLayer(nn.Module):
    """Attention, then the mixture of experts, each on the normed residual stream and added to it."""

    def __init__(self, config: MixtralConfig, layer: int, numerics: Numerics) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer, numerics)
        self.block_sparse_moe = MixtureOfExperts(config, "eager" if numerics == "reference" else None)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
        """Add attention and experts to the residual stream, [B, S, C] → [B, S, C]."""
        with hooks.span(Site.RESIDUAL):
            x = hooks.run(Site.ATTENTION_INPUT, self.input_layernorm, hidden)
            hidden = hidden + hooks.run(Site.ATTENTION_OUTPUT, self.self_attn, x, context, hooks)
            x = hooks.run(Site.ROUTER_INPUT, self.post_attention_layernorm, hidden)
            hidden = hidden + hooks.run(Site.MOE_OUTPUT, self.block_sparse_moe, x, context, hooks)
        return hooks.visit(Site.RESIDUAL, hidden)
