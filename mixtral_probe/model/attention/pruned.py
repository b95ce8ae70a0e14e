"""Attention without some of its query heads."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.attention.attention import Attention
from mixtral_probe.model.attention.weights import mask_of_heads, repeat_kv
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.hooks import Hooks, WrappedHooks
from mixtral_probe.model.sites import Site


class PrunedAttention(Attention):
    """Attention with the weights of some query heads removed; its output is as if they gave 0.

    Key and value heads stay, since other query heads of their group may read them. Heads keep their numbers, and
    instruments get zeros where one was removed.

    Args:
        attention: its projections are used, those of query and output cut in place.
        config: of the model.
        heads: the heads to keep, some of ``attention.heads``.
    """

    def __init__(self, attention: Attention, config: MixtralConfig, heads: Sequence[int]) -> None:
        with torch.device("meta"):
            super().__init__(config, attention.layer, attention.numerics)
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.o_proj = attention.o_proj
        rows = self.rows([attention.heads.index(head) for head in heads])
        self.q_proj.weight = nn.Parameter(self.q_proj.weight[rows], self.q_proj.weight.requires_grad)
        self.o_proj.weight = nn.Parameter(self.o_proj.weight[:, rows], self.o_proj.weight.requires_grad)
        self.q_proj.out_features = self.o_proj.in_features = len(rows)
        self.heads = tuple(heads)
        self.train(attention.training)

    def rows(self, places: Sequence[int]) -> Tensor:
        """[n·D] int64: the rows of q_proj, or columns of o_proj, at these places of heads."""
        first = torch.tensor(places, device=self.q_proj.weight.device)[:, None] * self.head_dim
        return (first + torch.arange(self.head_dim, device=first.device)).flatten()

    def forward(self, x: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
        """[B, S, C] → [B, S, C]."""
        return super().forward(x, context, _AllHeadsHooks(hooks, self.heads, self.num_heads))

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        key, value = (repeat_kv(x, self.heads, self.num_heads) for x in (key, value))
        return super()._fused(query, key, value, None if mask is None else mask_of_heads(mask, self.heads))


class _AllHeadsHooks(WrappedHooks):
    """Visits values of all H heads, with zeros for those that were removed."""

    __slots__ = ("_heads", "_num_heads")
    _axes: ClassVar = {Site.QUERY: 1, Site.HEAD_OUTPUT: 2}

    def __init__(self, hooks: Hooks, heads: tuple[int, ...], num_heads: int) -> None:
        super().__init__(hooks)
        self._heads, self._num_heads = heads, num_heads

    def visit(self, site: Site, value: Any) -> Any:
        if site not in self._axes or not self.wants(site):
            return super().visit(site, value)
        axis, shape = self._axes[site], list(value.shape)
        shape[axis] = self._num_heads
        places = torch.tensor(self._heads, device=value.device)
        all_heads = value.new_zeros(shape).index_copy(axis, places, value)
        return super().visit(site, all_heads).index_select(axis, places)
