"""The prompt: ids, where its padding is, and what of it a cache holds already."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.generation.options import GenerationOptions


@dataclass(frozen=True, slots=True)
class Prompt:
    """Checked rows of ids, padded on the left."""

    ids: Tensor
    """[B, S] int64, all of it, also what the cache holds."""
    mask: Tensor | None
    """[B, S] bool, False on padding; None where nothing is padded."""
    cache: KVCache

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None, options: GenerationOptions, cache: KVCache | None = None) -> "Prompt":
        """Check what came; without a mask, leading padding ids that are no stop ids count as padding.

        Raises:
            InputError: no row, no token, padding that is not on the left, or a cache that does not fit.
        """
        if ids.dim() != 2 or ids.is_floating_point() or 0 in ids.shape:
            raise InputError(f"input_ids must be whole numbers [batch, positions], each at least 1, got {_form(ids)}")
        if mask is None:
            mask = _inferred(ids, options)
        elif mask.shape != ids.shape:
            raise InputError(f"attention_mask must have the shape of input_ids, {list(ids.shape)}, got {_form(mask)}")
        mask = None if mask is None or mask.bool().all() else mask.bool()
        if mask is not None:
            _check_left(mask)
        cache = KVCache() if cache is None else cache
        if len(cache) >= ids.shape[1]:
            raise InputError(
                f"input_ids must hold the {len(cache)} positions of past_key_values and at least one more, "
                f"got {ids.shape[1]}"
            )
        if len(cache) and cache.batch_size != len(ids):
            raise InputError(f"input_ids must have the {cache.batch_size} rows of past_key_values, got {len(ids)}")
        return cls(ids.long(), mask, cache)

    @property
    def fresh(self) -> Tensor:
        """[B, S − past], what is still to be fed forward."""
        return self.ids[:, len(self.cache) :]

    @property
    def padding(self) -> Tensor | None:
        """[B], how many positions of each row are padding."""
        return None if self.mask is None else (~self.mask).sum(1)


def _inferred(ids: Tensor, options: GenerationOptions) -> Tensor | None:
    if options.pad_token_id is None or options.pad_token_id in options.ends:
        return None
    mask = (ids != options.pad_token_id).cumsum(1) > 0
    return mask if bool(mask[:, -1].all()) else None  # nothing but padding: it is the text itself


def _check_left(mask: Tensor) -> None:
    wrong = (mask.long().diff(dim=1) < 0).any(1) | ~mask[:, -1]
    if wrong.any():
        raise InputError(
            f"rows must be padded on the left, since generation continues after the last position, got padding after "
            f"a token in row {int(wrong.nonzero()[0, 0])}"
        )


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def padded_left(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Rows of different length as ids [B, S] and mask [B, S]; None where they are equally long."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    if (lengths == longest).all():
        return ids, None
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]
