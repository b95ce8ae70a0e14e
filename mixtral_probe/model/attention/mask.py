"""Causality, the sliding window, padding and packed sequences as an additive mask."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixtral_probe.errors import InputError

HIDDEN = -1e4
"""An additive mask hides a key with this or a lower number: the softmax then gives 0."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The sizes of attention weights [B, H, S, M]; the last S of the M keys are those of the call."""

    batch: int
    heads: int
    queries: int
    keys: int


def additive_mask(
    attention_mask: Tensor | None, grid: Grid, window: int | None, like: Tensor, sequences: Tensor | None = None
) -> Tensor:
    """[B or 1, 1 or H, S, M] with 0 where attention is allowed and the dtype's minimum elsewhere.

    The minimum, not −inf, so that a row without visible keys (left padding) stays finite.

    Args:
        attention_mask: None, [B, M] with 0 on padding, or [B or 1, 1 or H, S, M], bool (True is visible) or additive
            float. The latter replaces causality and the window.
        window: how many keys a query sees, itself included; None for all.
        like: its dtype and device are those of the mask.
        sequences: [B or 1, S] from ``packed_sequences``.

    Raises:
        InputError: the mask has another shape or dtype.
    """
    if attention_mask is not None:
        _require_shape(attention_mask, grid)
        if attention_mask.dim() == 4:
            return _four_dimensional(attention_mask.to(like.device), like.dtype)
    query = torch.arange(grid.keys - grid.queries, grid.keys, device=like.device)[:, None]
    key = torch.arange(grid.keys, device=like.device)[None, :]
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    visible = visible[None, None]
    if attention_mask is not None:
        visible = visible & attention_mask.to(device=like.device, dtype=torch.bool)[:, None, None, :]
    if sequences is not None:
        visible = visible & (sequences[:, None, :, None] == sequences[:, None, None, :])
    return _additive(visible, like.dtype)


def packed_sequences(positions: Tensor) -> Tensor | None:
    """The number of the sequence of each position [B, S]; None where every row holds one sequence.

    A sequence ends where the next position is not larger by 1.
    """
    breaks = positions.diff(dim=-1) != 1
    if not bool(breaks.any()):
        return None
    return torch.cat((torch.zeros_like(positions[:, :1]), breaks.cumsum(-1)), dim=-1)


def valid_tokens(attention_mask: Tensor | None, grid: Grid) -> Tensor | None:
    """[B, S], False on padding; None without a mask.

    Padding of a four-dimensional mask is a key that no query sees.
    """
    if attention_mask is None:
        return None
    new = slice(grid.keys - grid.queries, None)
    if attention_mask.dim() == 2:
        return attention_mask[:, new].bool()
    visible = attention_mask if attention_mask.dtype == torch.bool else attention_mask > HIDDEN
    return visible[..., new].any(dim=(1, 2)).expand(grid.batch, -1)


def _require_shape(mask: Tensor, grid: Grid) -> None:
    if mask.dim() != 4:
        if mask.shape != (grid.batch, grid.keys):
            raise InputError(
                f"attention_mask must have the shape [batch, past + positions] = [{grid.batch}, {grid.keys}], "
                f"got {list(mask.shape)}"
            )
    elif mask.shape[0] not in (1, grid.batch) or mask.shape[1] not in (1, grid.heads) or mask.shape[2:] != (
        grid.queries, grid.keys,
    ):  # fmt: skip
        raise InputError(
            f"a four-dimensional attention_mask must be [{grid.batch} or 1, 1 or {grid.heads}, {grid.queries}, "
            f"{grid.keys}], got {list(mask.shape)}"
        )
    elif mask.dtype != torch.bool and not mask.is_floating_point():
        raise InputError(
            "a four-dimensional attention_mask must be bool, True where a key is visible, or a float that is added to "
            f"the scores, got {str(mask.dtype).removeprefix('torch.')}"
        )


def _four_dimensional(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return _additive(mask, dtype)
    return mask.clamp(min=torch.finfo(dtype).min).to(dtype)  # −inf, or another dtype's minimum, would give NaN


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=visible.device)
    return torch.where(visible, torch.zeros((), dtype=dtype, device=visible.device), blocked)
