"""The sparse mixture of experts: a linear router, the K best experts per row, their weighted sum.

Three steps: **dispatch** sorts the assignments of rows to experts by expert, the **experts** run, each over its block
of rows, and **combine** adds their weighted outputs by row. ``grouped_experts`` has the same steps without a loop.

In float32, bfloat16 and float16 the numbers are those of transformers' eager arithmetic to the bit, which needs:

- Blocks copied to memory of their own where they do not begin at a multiple of 64 bytes: a product of rows that begin
  elsewhere can differ in the last bit.
- Sums of a row made in the order of its experts' numbers. In low precision every addition is rounded, so that each
  expert's outputs are added in a call of their own; one call for all would round once. On an accelerator one call adds
  up in any order.
- Outputs multiplied by their weight in the weight's dtype, float32 by default, then rounded to that of the activations.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixtral_probe.config import MixtralConfig
from mixtral_probe.model.activations import ACTIVATION
from mixtral_probe.model.context import ForwardContext
from mixtral_probe.model.grouped_experts import ExpertsImplementation, faster, grouped_output, obstacle
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.sites import ExpertSlice, Routing, Site

_ALIGNMENT = 64
"""Bytes; see above."""


class MixtureOfExperts(nn.Module):
    """Router and experts of one layer."""

    def __init__(self, config: MixtralConfig, implementation: ExpertsImplementation | None = None) -> None:
        super().__init__()
        self.top_k, self.jitter = config.num_experts_per_tok, config.router_jitter_noise
        self.rounds_weights = config.routing_weight_dtype == "activations"
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = Experts(config, implementation)

    def forward(self, x: Tensor, context: ForwardContext, hooks: Hooks) -> Tensor:
        """[B, S, C] → [B, S, C]."""
        if self.training and self.jitter > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        rows = x.reshape(-1, x.shape[-1])  # [T, C]
        logits = hooks.run(Site.ROUTER_LOGITS, self.gate, rows)  # [T, E]
        weight_dtype = x.dtype if self.rounds_weights else torch.float32
        with hooks.span(Site.ROUTING):
            chosen = choose_experts(logits, self.top_k, weight_dtype)
        routing = hooks.visit(Site.ROUTING, chosen)
        return self.experts(rows, routing, context, hooks, complete=routing is chosen).view(x.shape)


def choose_experts(logits: Tensor, top_k: int, weight_dtype: torch.dtype = torch.float32) -> Routing:
    """Choose the K most probable experts of router logits [T, E], with weights that sum to 1.

    Softmax over all E in float32, then top-k, then division by the sum of the K; equal to a softmax over the K logits.
    transformers 4 then rounds the weights to the activations' dtype, transformers 5 does not.
    """
    weights, expert_ids = F.softmax(logits.float(), dim=-1).topk(top_k, dim=-1)
    return Routing(expert_ids, (weights / weights.sum(dim=-1, keepdim=True)).to(weight_dtype), logits)


class Experts(nn.Module):
    """E gated feed-forward networks, w2(act(w1 x) · w3 x), in two stacked tensors.

    Args:
        config: the sizes.
        implementation: "eager" is a loop over the experts, "grouped_mm" one product for all, where it can be used; by
            default what was measured to be faster.
    """

    def __init__(self, config: MixtralConfig, implementation: ExpertsImplementation | None = None) -> None:
        super().__init__()
        self.implementation = implementation
        experts, width, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))  # w1's rows, then w3's
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.activation = ACTIVATION[config.hidden_act]

    def forward(
        self, x: Tensor, routing: Routing, context: ForwardContext, hooks: Hooks, *, complete: bool = False
    ) -> Tensor:
        """Weighted sums of expert outputs, [T, C] → [T, C]; a ``complete`` routing has K experts for every row."""
        if self._groups(x, hooks):
            return grouped_output(x, routing, self.gate_up_proj, self.down_proj, self.activation, complete=complete)
        dispatch = Dispatch.of(routing, len(self.down_proj))
        outputs = self._outputs(x, dispatch, context, hooks)  # [A, C]
        return combine(outputs, dispatch, torch.zeros_like(x))

    def _groups(self, x: Tensor, hooks: Hooks) -> bool:
        """Whether a call with rows [T, C] takes one product for all experts."""
        if self.implementation == "eager" or hooks.separates_experts:
            return False
        chosen = self.implementation == "grouped_mm" or faster(x.device)
        return chosen and obstacle(x.dtype, self.gate_up_proj, self.down_proj) is None

    def used(self) -> str:
        """Return how the experts are computed, and why, as a trace records it."""
        weight = self.down_proj
        if self.implementation == "eager" or not (self.implementation or faster(weight.device)):
            return "eager"
        reason = obstacle(weight.dtype, self.gate_up_proj, weight)
        return f"eager ({reason})" if reason else "grouped_mm"

    def _outputs(self, x: Tensor, dispatch: "Dispatch", context: ForwardContext, hooks: Hooks) -> Tensor:
        """[A, C]: each expert's output for its block of rows, one block after the other."""
        expert_forward = self._expert_fn(max(dispatch.counts), x, context)
        wanted = hooks.wants(Site.EXPERT_OUTPUT)
        outputs = []
        for expert, (rows, block) in enumerate(zip(dispatch.blocks(dispatch.rows), dispatch.gather(x), strict=True)):
            if not len(rows) and not wanted:
                continue
            with hooks.span(Site.EXPERT_OUTPUT, expert):
                values = expert_forward(expert, block.clone() if block.data_ptr() % _ALIGNMENT else block)
                if wanted:
                    values = hooks.visit(Site.EXPERT_OUTPUT, ExpertSlice(expert, rows, values)).values
                outputs.append(values)
        return torch.cat(outputs) if outputs else x.new_empty(0, x.shape[1])

    def expert_forward(self, expert: int, x: Tensor) -> Tensor:
        """The output of one expert: [n, C] → [n, C]."""
        gate, up = F.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return F.linear(self.activation(gate) * up, self.down_proj[expert])

    def _expert_fn(self, most_rows: int, x: Tensor, context: ForwardContext) -> Callable[[int, Tensor], Tensor]:
        """``expert_forward``, or in inference mode the same numbers in memory that all layers share.

        The page faults of fresh memory cost more than a small expert.
        """
        if not torch.is_inference_mode_enabled():
            return self.expert_forward
        inner = self.down_proj.shape[2]
        gate_up = context.buffer("gate_up", (most_rows, 2 * inner), x)
        hidden = context.buffer("hidden", (most_rows, inner), x)
        return lambda expert, block: self._forward_in_place(expert, block, gate_up[: len(block)], hidden[: len(block)])

    def _forward_in_place(self, expert: int, x: Tensor, gate_up: Tensor, hidden: Tensor) -> Tensor:
        """``expert_forward`` written over ``x``."""
        torch.mm(x, self.gate_up_proj[expert].t(), out=gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        torch.mul(self.activation(gate), up, out=hidden)
        return torch.mm(hidden, self.down_proj[expert].t(), out=x)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The A assignments of rows to experts, sorted by expert; inside one by rank of the choice, then by row."""

    rows: Tensor
    """[A] int64, the row of each."""
    weights: Tensor
    """[A], the routing weight of each."""
    counts: list[int]
    """[E], how many each expert has; together A, which is K · T unless an edit left places empty."""

    @classmethod
    def of(cls, routing: Routing, num_experts: int) -> "Dispatch":
        """Sort the assignments of a choice."""
        expert_ids = routing.expert_ids.t().reshape(-1)  # [K·T], choice by choice
        order = expert_ids.argsort(stable=True)
        num_unassigned, *counts = torch.bincount(expert_ids + 1, minlength=num_experts + 1).tolist()
        order = order[num_unassigned:]
        return cls(order % len(routing.expert_ids), routing.weights.t().reshape(-1)[order], counts)

    def blocks(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values [A, …] cut by expert."""
        return values.split(self.counts)

    def gather(self, x: Tensor) -> tuple[Tensor, ...]:
        """Rows [T, C] copied to their assignments and cut by expert, each [n, C]."""
        return self.blocks(x.index_select(0, self.rows))


def combine(outputs: Tensor, dispatch: Dispatch, out: Tensor) -> Tensor:
    """Add expert outputs [A, C], times their weights, to the rows of ``out`` [T, C], in place."""
    values = (outputs * dispatch.weights[:, None]).to(out.dtype)
    if out.dtype is torch.float32 and out.device.type == "cpu":
        return out.index_add_(0, dispatch.rows, values)
    for rows, block in zip(dispatch.blocks(dispatch.rows), dispatch.blocks(values), strict=True):
        out.index_add_(0, rows, block)
    return out
