"""Explicit attention weights, for reference numerics and for instruments; the fused kernel does not return them.

Heads are counted as in the whole model, H of them, also where pruning removed some.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.sites import AttentionSlice, Site

SLICE_ELEMENTS = 2**22
"""Most attention weights visited at once, unless one head alone has more."""
QUERIES_AT_ONCE = 512
"""Of plain causal attention: a small block of queries need not be multiplied by the many keys after it."""


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, heads: Sequence[int], num_heads: int) -> Tensor:
    """Softmax of the scaled scores, [B, h, S, M]: float32 inside, the dtype of the query outside.

    Args:
        query: [B, h, S, D], of ``heads``.
        key: [B, H_kv, M, D].
        mask: [B or 1, 1 or H, S, M] additive; None for plain causal attention.
        heads: h of the H heads, ascending.
        num_heads: H.
    """
    key = repeat_kv(key, heads, num_heads)
    if mask is None and query.shape[2] > 1:
        return _causal_weights(query, key)
    scores = _scores(query, key)
    if mask is not None:
        scores = scores + mask_of_heads(mask, heads)
    return _softmax(scores, query.dtype)


def visit_weights(
    query: Tensor, key: Tensor, mask: Tensor | None, heads: Sequence[int], num_heads: int, hooks: Hooks
) -> None:
    """Compute and visit the weights of the wanted heads, in slices of at most ``SLICE_ELEMENTS`` numbers.

    Arguments as in ``attention_weights``.
    """
    wanted = [head for head in hooks.heads(num_heads) if head in heads]
    heads_at_once = max(1, SLICE_ELEMENTS // max(1, query.shape[0] * query.shape[2] * key.shape[2]))
    for start in range(0, len(wanted), heads_at_once):
        chosen = wanted[start : start + heads_at_once]
        places = [heads.index(head) for head in chosen]
        weights = attention_weights(query[:, places], key, mask, chosen, num_heads)
        hooks.visit(Site.ATTENTION_WEIGHTS, AttentionSlice(tuple(chosen), weights))


def repeat_kv(x: Tensor, heads: Sequence[int], num_heads: int) -> Tensor:
    """Query head j reads kv head j // (H / H_kv): [B, H_kv, M, D] → [B, h, M, D].

    The memory layout of all heads is that of transformers (unchanged in groups of one, a view for one kv head): the
    rounding of a product depends on the layout of its factors.
    """
    groups = num_heads // x.shape[1]
    if len(heads) < num_heads:
        return x[:, [head // groups for head in heads]]
    return x if groups == 1 else x[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2)


def mask_of_heads(mask: Tensor, heads: Sequence[int]) -> Tensor:
    """The mask [B or 1, 1 or H, S, M] of some heads, where each has its own."""
    return mask if mask.shape[1] in (1, len(heads)) else mask[:, heads]


def _causal_weights(query: Tensor, key: Tensor) -> Tensor:
    """[B, h, S, S] where the order of positions alone decides what is visible, in blocks of queries."""
    size = query.shape[2]
    weights = query.new_zeros(*query.shape[:3], size)
    later = torch.ones(QUERIES_AT_ONCE, QUERIES_AT_ONCE, dtype=torch.bool, device=query.device).triu_(1)
    for start in range(0, size, QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, size)
        scores = _scores(query[:, :, start:stop], key[:, :, :stop])
        diagonal = later[: stop - start, : stop - start]
        scores[..., start:].masked_fill_(diagonal, torch.finfo(scores.dtype).min)
        weights[:, :, start:stop, :stop] = _softmax(scores, query.dtype)
    return weights


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """Scaled after the product, as in transformers."""
    return torch.matmul(query, key.transpose(2, 3)) * query.shape[-1] ** -0.5


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(dtype)
