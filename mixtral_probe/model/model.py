"""The decoder stack: embedding, L layers, final norm."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.attention import Numerics
from mixtral_probe.model.attention.cache import KVCache, past_length
from mixtral_probe.model.attention.mask import Grid, additive_mask, packed_sequences, valid_tokens
from mixtral_probe.model.attention.rope import Rope
from mixtral_probe.model.base import BaseModel
from mixtral_probe.model.collector import Collector, LayerChoice
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.gradient_checkpointing import Checkpointing, refuse_cache
from mixtral_probe.model.hooks import Hooks, require_fit, span, timers
from mixtral_probe.model.inputs import require_embeddings, require_ids, require_known, require_positions
from mixtral_probe.model.layer import DecoderLayer
from mixtral_probe.model.norm import RMSNorm
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.model.sites import MODEL, Instrument, Site


class MixtralModel(BaseModel):
    """Mixtral without its language head. Modules carry the names of the Hugging Face checkpoint.

    Args:
        config: the sizes.
        numerics: "fast" uses the fused attention kernel; "reference" repeats transformers' eager arithmetic to the bit
            (float32).
    """

    def __init__(self, config: MixtralConfig, numerics: Numerics = "fast") -> None:
        super().__init__()
        if numerics not in ("reference", "fast"):
            raise InputError(f"numerics must be 'reference' or 'fast', got {numerics!r}")
        self.config, self.numerics = config, numerics
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(DecoderLayer(config, i, numerics) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = Rope(config)
        wanted = getattr(
            config, "gradient_checkpointing", False
        )  # as configs of earlier versions of transformers say it
        self.checkpointing = Checkpointing.of(None, 1) if wanted else None
        """How layers run again for their gradients in training; None where they keep their activations."""
        self.multi_device = False
        """Whether parts of the model lie on different devices."""
        initialise(self, config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: LayerChoice | None = None,
        output_hidden_states: LayerChoice | None = None,
        output_router_logits: bool | None = None,
        instruments: Sequence[Instrument] = (),
        return_dict: bool | None = None,
        **without_effect: Any,
    ) -> ModelOutput | tuple[Any, ...]:
        """Run tokens through the layers. The config decides every argument that is None.

        Args:
            input_ids: [B, S] token ids, or
            inputs_embeds: [B, S, C] instead of them.
            attention_mask: [B, past + S] with 0 on padding; or [B or 1, 1 or H, S, past + S], bool with True where a
                key is visible, or a float added to the scores; it then replaces causality and the sliding window.
            position_ids: [B or 1, S]; by default they continue those of the cache. Without a mask and a cache, a
                position that is not the one before it plus 1 begins another sequence packed into the same row, which
                does not see those before it. (transformers 5.23 separates them only with ``use_cache=False``.)
            past_key_values: keys and values of earlier calls, to which those of this call are appended.
            use_cache: create a cache when ``past_key_values`` is None; packed sequences cannot have one.
            output_attentions: return those of all layers (True) or of a list of layers, with None for the others. With
                ``numerics="reference"`` the output is computed from them, so that they have the gradient of a loss, as
                in transformers' eager attention. The kernel of "fast" never has them in memory: they are computed
                aside, a loss does not depend on them, and attention times gradient needs "reference".
            output_hidden_states: return all (True) or a list: 0 is the embeddings, i the output of layer i − 1.
            output_router_logits: return those of all layers.
            instruments: attached to this call only, visited in this order.
            return_dict: False returns a tuple in the order of transformers, without the values that are None.
            without_effect: ``inputs.WITHOUT_EFFECT``, such as ``cache_position`` and ``token_type_ids``.

        Raises:
            InputError: an argument breaks a rule.
        """
        require_known(without_effect)
        collector = Collector.of(self.config, output_hidden_states, output_attentions, output_router_logits)
        instruments = (*instruments, collector) if collector.active else tuple(instruments)
        require_fit(instruments, self.config)

        with span(timers(instruments), Site.EMBEDDING, MODEL):
            hidden = self._embed(input_ids, inputs_embeds)  # [B, S, C]
        context = self._context(hidden, input_ids, attention_mask, position_ids, past_key_values, use_cache)
        hidden = Hooks(instruments, MODEL, context).visit(Site.EMBEDDING, hidden)
        hidden, context = self.run_layers(hidden, context, instruments)

        if context.cache is not None:
            context.cache.calls += 1
        out = ModelOutput(
            last_hidden_state=hidden, context=context, past_key_values=context.cache, **collector.outputs(hidden)
        )
        return out if (self.config.return_dict if return_dict is None else return_dict) else out.to_tuple()

    def run_layers(
        self, hidden: Tensor, context: ForwardContext, instruments: Sequence[Instrument] = (), first: int = 0
    ) -> tuple[Tensor, ForwardContext]:
        """Run the residual stream [B, S, C] before layer ``first`` through the rest of the layers and the final norm.

        With the ``context`` of an earlier pass without a cache, that pass is repeated from the middle. Also returns
        the context, on the device of the hidden states.
        """
        checkpointing = self.checkpointing if self._recomputes() else None
        for index in range(first, len(self.layers)):
            layer = self.layers[index]
            if self.multi_device:
                hidden, context = _to_device_of(next(layer.parameters()), hidden, context)
            hooks = Hooks(instruments, index, context)
            if checkpointing is None:
                hidden = layer(hidden, context, hooks)
            else:
                hidden = checkpointing.run(layer, index, hidden, context, hooks)
        if self.multi_device:
            hidden, context = _to_device_of(self.norm.weight, hidden, context)
        return self.norm(hidden), context

    def _recomputes(self) -> bool:
        return self.checkpointing is not None and self.training and torch.is_grad_enabled()

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError(
                "exactly one of input_ids and inputs_embeds must be given, got "
                f"{'neither' if input_ids is None else 'both'}; pass one"
            )
        if inputs_embeds is not None:
            require_embeddings(inputs_embeds, self.config.hidden_size)
            return inputs_embeds
        assert input_ids is not None
        require_ids(input_ids, self.config.vocab_size)
        return self.embed_tokens(input_ids.to(self.embed_tokens.weight.device, torch.int64))

    def _context(
        self, hidden: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None, position_ids: Tensor | None,
        past_key_values: KVCache | None, use_cache: bool | None,
    ) -> ForwardContext:  # fmt: skip
        """The positions, mask and cache of a call with hidden states [B, S, C]."""
        batch, length, _ = hidden.shape
        past = past_length(past_key_values, batch, self.config.num_hidden_layers)
        positions = self._positions(position_ids, past, hidden)
        one_sequence = attention_mask is not None or position_ids is None or past > 0
        sequences = None if one_sequence else packed_sequences(positions)
        grid = Grid(batch, self.config.num_attention_heads, length, past + length)
        cache = self._cache(past_key_values, use_cache, packed=sequences is not None)
        return ForwardContext(
            positions=positions,
            rotary=self.rope.tables(positions, hidden.dtype),
            mask=self._mask(attention_mask, grid, sequences, hidden),
            valid=valid_tokens(attention_mask, grid),
            input_ids=None if input_ids is None else input_ids.to(hidden.device, torch.int64),
            cache=cache,
            phase="decode" if past else "prefill",
            step=cache.calls if cache is not None else 0,
        )

    def _positions(self, position_ids: Tensor | None, past: int, hidden: Tensor) -> Tensor:
        """[B or 1, S]; by default those that follow ``past`` positions."""
        batch, length, _ = hidden.shape
        if position_ids is None:
            return torch.arange(past, past + length, device=hidden.device)[None]
        require_positions(position_ids, batch, length)
        return position_ids.to(hidden.device, torch.int64)

    def _cache(self, cache: KVCache | None, use_cache: bool | None, packed: bool) -> KVCache | None:
        """The cache that was passed or requested, or by default a new one where one can be used."""
        if packed and (cache is not None or use_cache):
            raise InputError(
                "a cache needs position_ids that rise by 1, got several packed sequences; pass use_cache=False, or an "
                "attention_mask if they are one sequence"
            )
        if cache is None:
            by_default = self.config.use_cache and not packed and not self._recomputes()
            cache = KVCache() if (by_default if use_cache is None else use_cache) else None
        if self._recomputes():
            refuse_cache(cache)
        return cache

    def _mask(
        self, attention_mask: Tensor | None, grid: Grid, sequences: Tensor | None, hidden: Tensor
    ) -> Tensor | None:
        """The additive mask; None where the fused kernel's own causality is enough."""
        window = self.config.sliding_window
        narrow = window is not None and window < grid.keys
        causal = grid.queries in (1, grid.keys) and attention_mask is None and sequences is None and not narrow
        if self.numerics == "fast" and causal:
            return None
        return additive_mask(attention_mask, grid, window, hidden, sequences)


def _to_device_of(weight: Tensor, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, ForwardContext]:
    """Move the residual stream and the context to the device of a weight."""
    return hidden.to(weight.device), context.on(weight.device)


@torch.no_grad()
def initialise(module: nn.Module, config: MixtralConfig) -> None:
    """Draw normal weights of ``initializer_range``, leave norms at 1, and set the padding row to 0.

    Weights on the meta device stay as they are.
    """
    for name, weight in module.named_parameters():
        if weight.is_meta or name.endswith("norm.weight"):
            continue
        weight.normal_(0.0, config.initializer_range)
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None and not part.weight.is_meta:
            part.weight[part.padding_idx] = 0.0
