"""The experts of a layer as one grouped product, without a loop and without a number on the host.

The order of operations is that of transformers' ``grouped_mm`` experts, so that the numbers are theirs to the bit: the
weighted outputs of a row are added in float32 in the order of its choices, and rounded once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.model.sites import Routing

ExpertsImplementation = Literal["eager", "grouped_mm"]
"""A loop over the experts, or one grouped product."""
_ROW_BYTES = 16
"""torch's kernels need rows that begin at multiples of it."""


_LOOPED = ContextVar("looped", default=False)


@contextmanager
def eager_experts(needed: bool = True) -> Iterator[None]:
    """Compute experts by the loop in the calls of this thread, so that runs which are compared differ by edits alone.

    In low precision the two forms differ by more than a small edit does, and an edit of the outputs of experts needs
    the loop.
    """
    token = _LOOPED.set(needed or _LOOPED.get())
    try:
        yield
    finally:
        _LOOPED.reset(token)


def grouped_output(
    x: Tensor, routing: Routing, gate_up_proj: Tensor, down_proj: Tensor, activation: Callable[[Tensor], Tensor],
    *, complete: bool = False,
) -> Tensor:  # fmt: skip
    """Weighted sums of expert outputs, [T, C] → [T, C].

    Args:
        x: [T, C].
        routing: ids [T, K] and weights.
        gate_up_proj: [E, 2 I, C].
        down_proj: [E, C, I].
        activation: of the gate.
        complete: no id is −1. The rows of such a place are not written by the product, and must be set to zero.
    """
    experts, top_k = len(down_proj), routing.expert_ids.shape[1]
    flat = routing.expert_ids.reshape(-1)  # [T·K]
    key, order = (flat if complete else torch.where(flat < 0, experts, flat)).sort(stable=True)
    ends = torch.searchsorted(key, torch.arange(experts, device=key.device), right=True, out_int32=True)
    absent = None if complete else (key == experts)[:, None]
    hidden = _without(x[order // top_k], absent)
    gate, up = F.grouped_mm(hidden, gate_up_proj.transpose(1, 2), offs=ends).chunk(2, dim=-1)
    outputs = _without(F.grouped_mm(activation(gate) * up, down_proj.transpose(1, 2), offs=ends), absent)
    weighted = outputs * routing.weights.reshape(-1)[order, None]
    return weighted[_inverse(order)].view(len(x), top_k, x.shape[1]).sum(dim=1).to(x.dtype)


def obstacle(rows: torch.dtype, gate_up_proj: Tensor, down_proj: Tensor) -> str | None:
    """Return why torch has no grouped product for rows of a dtype and these weights; None where it has."""
    dtype, device = gate_up_proj.dtype, gate_up_proj.device
    if _LOOPED.get():
        return "as in the run it is compared with"
    if not hasattr(F, "grouped_mm"):
        return f"torch {torch.__version__} has no grouped_mm"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"{dtype} has no grouped product"
    if rows != dtype or torch.is_autocast_enabled(device.type):
        return "activations have another dtype than the weights"
    if device.type != "cpu" and not (device.type == "cuda" and _capability(device) >= (8, 0)):
        return f"{device.type} has no grouped product that is known to run"
    return None if all(map(_aligned, (gate_up_proj, down_proj))) else f"rows must be multiples of {_ROW_BYTES} bytes"


def faster(device: torch.device) -> bool:
    """Return whether the grouped product is faster than the loop on a device.

    On compute capability 9 it never lost in float32, bfloat16 or float16. Older cards loop on the host for what their
    kernels lack, and a CPU loops in fresh memory, where the loop here has its own.
    """
    return device.type == "cuda" and _capability(device)[0] in (9, 10)


def _without(rows: Tensor, absent: Tensor | None) -> Tensor:
    return rows if absent is None else rows.masked_fill(absent, 0.0)


def _inverse(order: Tensor) -> Tensor:
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places


def _aligned(weight: Tensor) -> bool:
    return weight.shape[-1] * weight.element_size() % _ROW_BYTES == 0 and weight.data_ptr() % _ROW_BYTES == 0


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
