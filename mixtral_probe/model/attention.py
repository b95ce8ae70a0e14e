"""Grouped-query causal attention (Ainslie et al. 2023, arXiv 2305.13245)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.rope import rotate
from mixtral_probe.model.sites import AttentionSlice, Call, Site, Visitors

Numerics = Literal["reference", "fast"]
SLICE_ELEMENTS = 2**22
"""Attention weights shown at once: at most this many numbers, or one head."""
QUERIES_AT_ONCE = 512
"""Of plain causal attention: few queries together need not be multiplied by the many keys after them."""


class Attention(nn.Module):
    """Query, key and value projections, rotary positions, softmax over visible keys, output projection."""

    def __init__(self, config: MixtralConfig, layer: int, numerics: Numerics) -> None:
        super().__init__()
        self.layer, self.numerics = layer, numerics
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.dropout = config.head_size, config.attention_dropout
        self.heads = tuple(range(self.num_heads))
        """The query heads that are there: all H, or those that pruning left."""
        self.scale = config.head_size**-0.5
        width, query_width = config.hidden_size, config.num_attention_heads * config.head_size
        self.q_proj = nn.Linear(width, query_width, bias=False)
        self.k_proj = nn.Linear(width, self.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, self.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(query_width, width, bias=False)

    def forward(self, x: Tensor, call: Call, visit: Visitors) -> Tensor:
        """[B, S, C] → [B, S, C]."""
        with visit.span(Site.QUERY):
            query = self._rotated(self.q_proj, x, call)
        query = self._visit_heads(visit, Site.QUERY, query, 1)
        key = visit.make(Site.KEY, self._rotated, self.k_proj, x, call)
        value = visit.make(Site.VALUE, self._heads, self.v_proj, x)
        if call.cache is not None:
            key, value = call.cache.append(self.layer, key, value)
        with visit.span(Site.HEAD_OUTPUT):
            out = self._attend(query, key, value, call, visit).transpose(1, 2).contiguous()  # [B, S, H, D]
        out = self._visit_heads(visit, Site.HEAD_OUTPUT, out, 2)
        return self.o_proj(out.flatten(2))

    @property
    def pruned(self) -> bool:
        """Whether heads were taken out."""
        return len(self.heads) < self.num_heads

    def keep_heads(self, heads: Sequence[int]) -> None:
        """Drop the weights of all query heads but these, which are some of ``heads``."""
        rows = self.rows([self.heads.index(head) for head in heads])
        self.q_proj.weight = nn.Parameter(self.q_proj.weight[rows], self.q_proj.weight.requires_grad)
        self.o_proj.weight = nn.Parameter(self.o_proj.weight[:, rows], self.o_proj.weight.requires_grad)
        self.q_proj.out_features = self.o_proj.in_features = len(rows)
        self.heads = tuple(heads)

    def rows(self, places: Sequence[int]) -> Tensor:
        """[n·D] int64: the rows of q_proj, or columns of o_proj, of the heads at these places."""
        first = torch.tensor(places, device=self.q_proj.weight.device)[:, None] * self.head_dim
        return (first + torch.arange(self.head_dim, device=first.device)).flatten()

    def _visit_heads(self, visit: Visitors, site: Site, value: Tensor, dim: int) -> Tensor:
        """Visit with all H heads along ``dim``, so that each keeps its number; pruned ones are zeros."""
        if not self.pruned or not visit.wants(site):
            return visit(site, value)
        shape = list(value.shape)
        shape[dim] = self.num_heads
        places = torch.tensor(self.heads, device=value.device)
        whole = value.new_zeros(shape).index_copy(dim, places, value)
        return visit(site, whole).index_select(dim, places)

    def _rotated(self, projection: nn.Linear, x: Tensor, call: Call) -> Tensor:
        return rotate(self._heads(projection, x), call.rotary)

    def _heads(self, projection: nn.Linear, x: Tensor) -> Tensor:
        heads = projection.out_features // self.head_dim
        return projection(x).view(*x.shape[:-1], heads, self.head_dim).transpose(1, 2)  # [B, heads, S, D]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, call: Call, visit: Visitors) -> Tensor:
        """[B, H, S, D], through explicit weights where the numerics or an edit ask for them."""
        shown = visit.wants(Site.ATTENTION_WEIGHTS)
        if self.numerics == "reference" or visit.edits_attention():
            weights = self._weights(query, key, call.mask, self.heads)
            if shown:
                weights = visit(Site.ATTENTION_WEIGHTS, AttentionSlice(self.heads, weights)).weights
            weights = F.dropout(weights, self.dropout, self.training)
            return weights @ self._repeat(value)
        if shown:
            self._show(query, key, call.mask, visit)
        if self.pruned:
            key, value = self._repeat(key), self._repeat(value)
        return F.scaled_dot_product_attention(
            query, key, value, self._mask(call.mask, self.heads), self.dropout if self.training else 0.0,
            is_causal=call.mask is None and query.shape[2] > 1, scale=self.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip

    def _show(self, query: Tensor, key: Tensor, mask: Tensor | None, visit: Visitors) -> None:
        heads = [head for head in visit.heads(self.num_heads) if head in self.heads]
        together = max(1, SLICE_ELEMENTS // max(1, query.shape[0] * query.shape[2] * key.shape[2]))
        for start in range(0, len(heads), together):
            some = heads[start : start + together]
            places = [self.heads.index(head) for head in some]
            weights = self._weights(query[:, places], key, mask, some)
            visit(Site.ATTENTION_WEIGHTS, AttentionSlice(tuple(some), weights))

    def _weights(self, query: Tensor, key: Tensor, mask: Tensor | None, heads: Sequence[int]) -> Tensor:
        """Softmax of the scaled scores of some heads [B, h, S, M]: float32 inside, the activations' dtype outside."""
        key = self._repeat(key) if len(heads) == self.num_heads else self._of_heads(key, heads)
        if mask is None and query.shape[2] > 1:
            return self._causal_weights(query, key)
        scores = torch.matmul(query, key.transpose(2, 3)) * self.scale
        if mask is not None:
            scores = scores + self._mask(mask, heads)
        return F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)

    def _causal_weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The same where nothing but the order of positions hides keys: [B, h, S, S], made in blocks of queries."""
        size = query.shape[2]
        weights = query.new_zeros(*query.shape[:3], size)
        later = torch.ones(QUERIES_AT_ONCE, QUERIES_AT_ONCE, dtype=torch.bool, device=query.device).triu_(1)
        for start in range(0, size, QUERIES_AT_ONCE):
            stop = min(start + QUERIES_AT_ONCE, size)
            scores = torch.matmul(query[:, :, start:stop], key[:, :, :stop].transpose(2, 3)) * self.scale
            diagonal = later[: stop - start, : stop - start]
            scores[..., start:].masked_fill_(diagonal, torch.finfo(scores.dtype).min)
            weights[:, :, start:stop, :stop] = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        return weights

    def _mask(self, mask: Tensor | None, heads: Sequence[int]) -> Tensor | None:
        """The mask of some heads, where each has its own."""
        if mask is None or mask.shape[1] == 1 or len(heads) == self.num_heads:
            return mask
        return mask[:, heads]

    def _repeat(self, x: Tensor) -> Tensor:
        """Query head j reads kv head j // (H / H_kv): [B, H_kv, M, D] → [B, heads, M, D].

        Laid out in memory as the reference has it, contiguous from its cache and with one kv head a view of that, since
        torch rounds a product by the layout of its factors.
        """
        if self.pruned:
            return self._of_heads(x, self.heads)
        groups = self.num_heads // self.num_kv_heads
        return x.contiguous()[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2)

    def _of_heads(self, x: Tensor, heads: Sequence[int]) -> Tensor:
        """What some query heads read: [B, H_kv, M, D] → [B, len(heads), M, D]."""
        return x[:, [head // (self.num_heads // self.num_kv_heads) for head in heads]]
