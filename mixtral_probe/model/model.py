"""The decoder stack: embedding, L layers, final norm."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention import Numerics
from mixtral_probe.model.cache import KVCache
from mixtral_probe.model.collect import Collector
from mixtral_probe.model.layer import DecoderLayer
from mixtral_probe.model.mask import additive_mask
from mixtral_probe.model.norm import RMSNorm
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.model.rope import Rope
from mixtral_probe.model.sites import MODEL, Call, Instrument, Site, Visitors


class MixtralModel(nn.Module):
    """Mixtral without its language head. Modules carry the names of the Hugging Face checkpoint.

    Args:
        config: the sizes.
        numerics: "fast" uses the fused attention kernel; "reference" repeats transformers' eager arithmetic to the bit
            (float32).
    """

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        if numerics not in ("reference", "fast"):
            raise InputError(f"numerics must be 'reference' or 'fast', but it is {numerics!r}")
        self.config, self.numerics = config, numerics
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(DecoderLayer(config, i, numerics) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = Rope(config)
        initialise(self, config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        output_router_logits: bool = False,
        instruments: Sequence[Instrument] = (),
    ) -> ModelOutput:
        """Run tokens through the layers.

        Args:
            input_ids: [B, S] token ids; or else
            inputs_embeds: [B, S, C] in their place.
            attention_mask: [B, past + S] with 0 on padding, or four-dimensional bool or additive.
            position_ids: [B, S]; by default count on from what the cache holds.
            past_key_values: keys and values of earlier calls; appended to.
            use_cache: make a cache when none was given.
            instruments: attached to this call only, visited in this order.

        Raises:
            InputError: not exactly one kind of input, or ids outside the vocabulary.
        """
        hidden = self._embed(input_ids, inputs_embeds)
        cache = KVCache() if use_cache and past_key_values is None else past_key_values
        call = self._call(hidden, attention_mask, position_ids, cache)
        collector = Collector(output_hidden_states, output_attentions, output_router_logits)
        listeners = (*instruments, collector) if collector.busy else tuple(instruments)

        hidden = Visitors(listeners, MODEL, call)(Site.EMBEDDING, hidden)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, call, Visitors(listeners, index, call))
        hidden = self.norm(hidden)

        if cache is not None:
            cache.calls += 1
        return ModelOutput(hidden, call, cache, **collector.outputs(hidden))

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("exactly one of input_ids and inputs_embeds must be given")
        if inputs_embeds is not None:
            return inputs_embeds
        assert input_ids is not None
        if input_ids.device.type == "cpu" and input_ids.numel():
            low, high = int(input_ids.min()), int(input_ids.max())
            if low < 0 or high >= self.config.vocab_size:
                raise InputError(
                    f"token ids must be in 0–{self.config.vocab_size - 1}, the model's vocabulary, "
                    f"but {low if low < 0 else high} came"
                )
        return self.embed_tokens(input_ids)

    def _call(self, hidden: Tensor, mask: Tensor | None, positions: Tensor | None, cache: KVCache | None) -> Call:
        batch, length, _ = hidden.shape
        past = len(cache) if cache is not None else 0
        if positions is None:
            positions = torch.arange(past, past + length, device=hidden.device)[None]
        valid = None
        if mask is not None and mask.dim() == 2:
            valid = mask[:, -length:].bool() if length else mask[:, :0].bool()
        return Call(
            positions=positions,
            rotary=self.rope.tables(positions, hidden.dtype),
            mask=self._mask(mask, batch, length, past, hidden),
            valid=valid,
            cache=cache,
            phase="decode" if past else "prefill",
            step=cache.calls if cache is not None else 0,
        )

    def _mask(self, mask: Tensor | None, batch: int, length: int, past: int, hidden: Tensor) -> Tensor | None:
        window = self.config.sliding_window
        narrow = window is not None and window < past + length
        plain = mask is None and not narrow and (past == 0 or length == 1)
        if plain and self.numerics == "fast":
            return None
        return additive_mask(mask, batch, length, past, window, hidden.dtype, hidden.device)


@torch.no_grad()
def initialise(module: nn.Module, config: MixtralConfig) -> None:
    """Normal weights of ``initializer_range``, norms 1, padding row 0; nothing on the meta device."""
    for name, weight in module.named_parameters():
        if weight.is_meta or name.endswith("norm.weight"):
            continue
        weight.normal_(0.0, config.initializer_range)
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None and not part.weight.is_meta:
            part.weight[part.padding_idx] = 0.0
