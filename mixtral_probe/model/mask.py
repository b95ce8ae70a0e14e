"""Who may look at whom: causality, the sliding window and padding, as an additive mask."""

import torch
from torch import Tensor

from mixtral_probe.errors import InputError


def additive_mask(
    attention_mask: Tensor | None, batch: int, queries: int, past: int, window: int | None, dtype: torch.dtype,
    device: torch.device,
) -> Tensor:  # fmt: skip
    """[B or 1, 1, S, M] with 0 where attention is allowed and the dtype's minimum elsewhere.

    The minimum, not −inf: a row that sees nothing (left padding) then stays finite.

    Args:
        attention_mask: None, [B, M] with 0 on padding, [B, 1, S, M] bool (True = visible) or additive float.
        batch, queries, past: B, S and the number of cached positions; M = past + S.
        window: how many keys a query sees, itself included; None for all.

    Raises:
        InputError: the mask has another shape.
    """
    keys = past + queries
    if attention_mask is not None and attention_mask.dim() == 4:
        return _given(attention_mask, (batch, queries, keys), dtype)
    query = torch.arange(past, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    visible = visible[None, None]
    if attention_mask is not None:
        if attention_mask.shape != (batch, keys):
            raise InputError(
                f"attention_mask must have the shape [batch, past + positions] = [{batch}, {keys}], "
                f"but it is {list(attention_mask.shape)}"
            )
        visible = visible & attention_mask.to(device=device, dtype=torch.bool)[:, None, None, :]
    return _additive(visible, dtype)


def _given(mask: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    batch, queries, keys = sizes
    if mask.shape[0] not in (1, batch) or mask.shape[2:] != (queries, keys):
        raise InputError(
            f"a four-dimensional attention_mask must be [{batch} or 1, 1 or heads, {queries}, {keys}], "
            f"but it is {list(mask.shape)}"
        )
    return _additive(mask, dtype) if mask.dtype == torch.bool else mask.to(dtype)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=visible.device)
    return torch.where(visible, torch.zeros((), dtype=dtype, device=visible.device), blocked)
