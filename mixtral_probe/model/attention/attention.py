"""Grouped-query causal attention (Ainslie et al. 2023, arXiv 2305.13245)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.rope import rotate
from mixtral_probe.model.attention.weights import attention_weights, repeat_kv, visit_weights
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.sites import AttentionSlice, Site

Numerics = Literal["reference", "fast"]


class Attention(nn.Module):
    """Query, key and value projections, rotary positions, softmax over visible keys, output projection."""

    def __init__(self, config: MixtralConfig, layer: int, numerics: Numerics) -> None:
        super().__init__()
        self.layer, self.numerics = layer, numerics
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.dropout = config.head_size, config.attention_dropout
        self.scale = config.head_size**-0.5
        self.heads = tuple(range(self.num_heads))
        """The query heads in the rows of q_proj: all H, or those that pruning left."""
        width, query_width = config.hidden_size, self.num_heads * self.head_dim
        self.q_proj = nn.Linear(width, query_width, bias=False)
        self.k_proj = nn.Linear(width, self.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, self.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(query_width, width, bias=False)

    def forward(self, x: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
        """[B, S, C] → [B, S, C]."""
        query = hooks.run(Site.QUERY, self._rotated, self.q_proj, x, context)  # [B, H, S, D]
        key = hooks.run(Site.KEY, self._rotated, self.k_proj, x, context)  # [B, H_kv, S, D]
        value = hooks.run(Site.VALUE, self._split, self.v_proj, x)
        if context.cache is not None:
            key, value = context.cache.append(self.layer, key, value)  # [B, H_kv, M, D]
        out = hooks.run(Site.HEAD_OUTPUT, self._attend, query, key, value, context.mask, hooks)  # [B, S, H, D]
        return self.o_proj(out.flatten(2))

    def _rotated(self, projection: nn.Linear, x: Tensor, context: ForwardContext) -> Tensor:
        return rotate(self._split(projection, x), context.rotary)

    def _split(self, projection: nn.Linear, x: Tensor) -> Tensor:
        heads = projection.out_features // self.head_dim
        return projection(x).view(*x.shape[:-1], heads, self.head_dim).transpose(1, 2)  # [B, heads, S, D]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, hooks: Hooks) -> Tensor:
        """[B, S, H, D], through explicit weights where the numerics or an edit of the weights require them."""
        if self.numerics == "reference" or hooks.edits_attention():
            out = self._explicit(query, key, value, mask, hooks)
        else:
            if hooks.wants(Site.ATTENTION_WEIGHTS):
                visit_weights(query, key, mask, self.heads, self.num_heads, hooks)
            out = self._fused(query, key, value, mask)
        return out.transpose(1, 2).contiguous()

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """[B, H, S, D] by torch's kernel, which never has all the weights in memory."""
        return F.scaled_dot_product_attention(
            query, key, value, mask, self.dropout if self.training else 0.0,
            is_causal=mask is None and query.shape[2] > 1, scale=self.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip

    def _explicit(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, hooks: Hooks) -> Tensor:
        """[B, H, S, D] by the arithmetic of transformers' eager attention."""
        weights = attention_weights(query, key, mask, self.heads, self.num_heads)
        weights = hooks.visit(Site.ATTENTION_WEIGHTS, AttentionSlice(self.heads, weights)).weights
        weights = F.dropout(weights, self.dropout, self.training)
        return weights @ repeat_kv(value, self.heads, self.num_heads)
