"""The sparse mixture of experts: a linear router, the K best experts per row, their weighted sum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.activations import ACTIVATION
from mixtral_probe.model.sites import Call, ExpertSlice, Routing, Site, Visitors


class Experts(nn.Module):
    """E gated feed-forward networks, w2(act(w1 x) · w3 x), in two stacked tensors."""

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__()
        experts, width, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))  # w1's rows, then w3's
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.activation = ACTIVATION[config.hidden_act]

    def one(self, expert: int, x: Tensor, call: Call) -> Tensor:
        """What one expert makes of its rows: [n, C] → [n, C]."""
        if torch.is_inference_mode_enabled():
            return self._one_in_place(expert, x, call)
        gate, up = F.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return F.linear(self.activation(gate) * up, self.down_proj[expert])

    def _one_in_place(self, expert: int, x: Tensor, call: Call) -> Tensor:
        """The same numbers without fresh memory, whose page faults cost more than the arithmetic of a small expert."""
        inner = self.down_proj.shape[2]
        both = call.buffer("gate_up", (len(x), 2 * inner), x)
        torch.mm(x, self.gate_up_proj[expert].t(), out=both)
        gate, up = both.chunk(2, dim=-1)
        hidden = call.buffer("hidden", (len(x), inner), x)
        torch.mul(self.activation(gate), up, out=hidden)
        return torch.mm(hidden, self.down_proj[expert].t(), out=call.buffer("down", tuple(x.shape), x))

    def forward(self, x: Tensor, routing: Routing, call: Call, visit: Visitors) -> Tensor:
        """Rows [T, C] → their weighted sums of expert outputs [T, C].

        Rows are sorted by expert (by choice, then by row, inside one), so that each expert multiplies one contiguous
        block; the sums are then made in the order of the experts, as the reference makes them.
        """
        rows, weights, (start, *counts) = _by_expert(routing, len(self.down_proj))
        out = torch.zeros_like(x)
        shown = visit.wants(Site.EXPERT_OUTPUT)
        for expert, count in enumerate(counts):
            own = slice(start, start + count)
            start += count
            if not count and not shown:
                continue
            with visit.span(Site.EXPERT_OUTPUT, expert):
                values = self.one(expert, x.index_select(0, rows[own]), call)
                if shown:  # a copy, since whoever looks may keep it beyond the reuse of the buffer
                    values = visit(Site.EXPERT_OUTPUT, ExpertSlice(expert, rows[own], values.clone())).values
                out.index_add_(0, rows[own], (values * weights[own, None]).to(out.dtype))
        return out


def _by_expert(routing: Routing, num_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """Row index and weight of every assignment, sorted by expert, and how many nobody and each expert got."""
    expert_ids = routing.expert_ids.t().reshape(-1)  # [K·T], choice by choice
    order = expert_ids.argsort(stable=True)
    counts = torch.bincount(expert_ids + 1, minlength=num_experts + 1).tolist()
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
