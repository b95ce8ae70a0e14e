"""The sparse mixture of experts: a linear router, the K best experts per row, their weighted sum."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.activations import ACTIVATION
from mixtral_probe.model.sites import Call, ExpertSlice, Routing, Site, Visitors

_ALIGNED = 64
"""Bytes. A product of rows that begin elsewhere can differ in the last bit from that of rows in memory of their own."""


class Experts(nn.Module):
    """E gated feed-forward networks, w2(act(w1 x) · w3 x), in two stacked tensors."""

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__()
        experts, width, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))  # w1's rows, then w3's
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.activation = ACTIVATION[config.hidden_act]

    def one(self, expert: int, x: Tensor) -> Tensor:
        """What one expert makes of its rows: [n, C] → [n, C]."""
        gate, up = F.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return F.linear(self.activation(gate) * up, self.down_proj[expert])

    def _one_in_place(self, expert: int, x: Tensor, both: Tensor, hidden: Tensor) -> Tensor:
        """The same numbers written over ``x``: the page faults of fresh memory cost more than a small expert."""
        both, hidden = both[: len(x)], hidden[: len(x)]
        torch.mm(x, self.gate_up_proj[expert].t(), out=both)
        gate, up = both.chunk(2, dim=-1)
        torch.mul(self.activation(gate), up, out=hidden)
        return torch.mm(hidden, self.down_proj[expert].t(), out=x)

    def forward(self, x: Tensor, routing: Routing, call: Call, visit: Visitors) -> Tensor:
        """Rows [T, C] → their weighted sums of expert outputs [T, C].

        Rows are sorted by expert (by choice, then by row, inside one), so that each expert multiplies one contiguous
        block; the sums are then made in the order of the experts, as the reference makes them.
        """
        rows, weights, counts = _by_expert(routing, len(self.down_proj))
        out, shown = torch.zeros_like(x), visit.wants(Site.EXPERT_OUTPUT)
        one = self._maker(max(counts), x, call)
        made = []
        blocks = zip(rows.split(counts), x.index_select(0, rows).split(counts), strict=True)
        for expert, (own, block) in enumerate(blocks):
            if not len(own) and not shown:
                continue
            with visit.span(Site.EXPERT_OUTPUT, expert):
                values = one(expert, block.clone() if block.data_ptr() % _ALIGNED else block)
                if shown:
                    values = visit(Site.EXPERT_OUTPUT, ExpertSlice(expert, own, values)).values
                made.append(values)
        if not made:
            return out
        values = (torch.cat(made) * weights[:, None]).to(out.dtype)
        if out.dtype is torch.float32 and out.device.type == "cpu":
            return out.index_add_(0, rows, values)
        # In turn: in low precision one call for all rounds once, where the reference rounds every sum, and on an
        # accelerator it adds up in any order.
        for own, value in zip(rows.split(counts), values.split(counts), strict=True):
            out.index_add_(0, own, value)
        return out

    def _maker(self, most: int, x: Tensor, call: Call) -> Callable[[int, Tensor], Tensor]:
        """``one``, or where no gradient can be asked for, its equal that works in memory shared by all layers."""
        if not torch.is_inference_mode_enabled():
            return self.one
        inner = self.down_proj.shape[2]
        both, hidden = call.buffer("gate_up", (most, 2 * inner), x), call.buffer("hidden", (most, inner), x)
        return lambda expert, block: self._one_in_place(expert, block, both, hidden)


def _by_expert(routing: Routing, num_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """Row index and weight of every assignment, sorted by expert, and how many each expert got."""
    expert_ids = routing.expert_ids.t().reshape(-1)  # [K·T], choice by choice
    order = expert_ids.argsort(stable=True)
    nobody, *counts = torch.bincount(expert_ids + 1, minlength=num_experts + 1).tolist()
    order = order[nobody:]
    return order % len(routing.expert_ids), routing.weights.t().reshape(-1)[order], counts


class MixtureOfExperts(nn.Module):
    """Router and experts of one layer."""

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__()
        self.top_k, self.jitter = config.num_experts_per_tok, config.router_jitter_noise
        self.rounded = config.routing_weight_dtype == "activations"
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = Experts(config)

    def forward(self, x: Tensor, call: Call, visit: Visitors) -> Tensor:
        """[B, S, C] → [B, S, C]."""
        if self.training and self.jitter > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        rows = x.reshape(-1, x.shape[-1])
        logits = visit.make(Site.ROUTER_LOGITS, self.gate, rows)
        weight_dtype = x.dtype if self.rounded else torch.float32
        routing = visit.make(Site.ROUTING, choose_experts, logits, self.top_k, weight_dtype)
        return self.experts(rows, routing, call, visit).view(x.shape)


def choose_experts(logits: Tensor, top_k: int, weight_dtype: torch.dtype = torch.float32) -> Routing:
    """Router logits [T, E] → the K most probable experts, with weights that sum to 1.

    Softmax over all E in float32, then top-k, then division by the sum of the K; equal to a softmax over the K logits.
    transformers 4 then rounds the weights to the activations' dtype, transformers 5 does not.
    """
    weights, expert_ids = F.softmax(logits.float(), dim=-1).topk(top_k, dim=-1)
    return Routing(expert_ids, (weights / weights.sum(dim=-1, keepdim=True)).to(weight_dtype), logits)
