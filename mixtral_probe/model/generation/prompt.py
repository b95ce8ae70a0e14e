"""The prompt of a generation: ids or embeddings, padding, and a cache of its beginning."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model.attention.cache import KVCache
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.inputs import described


@dataclass(frozen=True, slots=True)
class Prompt:
    """Checked rows, padded on the left."""

    ids: Tensor
    """[B, S] int64, all of the prompt, the cached part included; [B, 0] for embeddings without ids."""
    mask: Tensor | None
    """[B, S] bool, False on padding; None without padding."""
    cache: KVCache
    embeddings: Tensor | None = None
    """[B, S, C] in place of the ids."""

    @classmethod
    def of(
        cls,
        ids: Tensor,
        mask: Tensor | None,
        options: GenerationOptions,
        cache: KVCache | None = None,
        embeddings: Tensor | None = None,
    ) -> "Prompt":
        """Check a prompt; without a mask, leading padding ids that are not stop ids are padding.

        Raises:
            InputError: no row, no token, padding that is not on the left, or a cache that does not fit.
        """
        if embeddings is not None:
            return cls._of_embeddings(ids, mask, cache, embeddings)
        if ids.dim() != 2 or ids.is_floating_point() or 0 in ids.shape:
            raise InputError(
                f"input_ids must be whole numbers [batch, positions], each at least 1, got {described(ids)}"
            )
        mask = _mask_from_padding(ids, options) if mask is None else mask
        mask = _checked(mask, list(ids.shape), "input_ids")
        return cls(ids.long(), mask, _fitting(cache, ids, "input_ids"))

    @classmethod
    def _of_embeddings(cls, ids: Tensor, mask: Tensor | None, cache: KVCache | None, embeddings: Tensor) -> "Prompt":
        if embeddings.dim() != 3 or 0 in embeddings.shape:
            raise InputError(f"inputs_embeds must be floats [batch, positions, size], got {described(embeddings)}")
        rows, length, _ = embeddings.shape
        if ids.dim() != 2 or len(ids) != rows:
            raise InputError(f"input_ids must have the {rows} rows of inputs_embeds, got {described(ids)}")
        mask = _checked(mask, [rows, length], "inputs_embeds")
        return cls(ids.long(), mask, _fitting(cache, embeddings, "inputs_embeds"), embeddings)

    def repeated(self, count: int) -> "Prompt":
        """Every row that many times, one after the other, for what is generated from it."""
        if count == 1:
            return self
        mask = None if self.mask is None else self.mask.repeat_interleave(count, 0)
        return replace(self, ids=self.ids.repeat_interleave(count, 0), mask=mask)

    @property
    def uncached(self) -> tuple[Tensor | None, Tensor | None]:
        """The part that is not cached: ids [B, S − past] or embeddings [B, S − past, C]."""
        past = len(self.cache)
        return (self.ids[:, past:], None) if self.embeddings is None else (None, self.embeddings[:, past:])

    @property
    def padding(self) -> Tensor | None:
        """[B], number of padding ids of each row; None for none."""
        return None if self.mask is None or self.mask.shape != self.ids.shape else (~self.mask).sum(1)


def _mask_from_padding(ids: Tensor, options: GenerationOptions) -> Tensor | None:
    if options.pad_token_id is None or options.pad_token_id in options.ends:
        return None
    mask = (ids != options.pad_token_id).cumsum(1) > 0
    return mask if bool(mask[:, -1].all()) else None  # nothing but padding: then it is text


def _fitting(cache: KVCache | None, inputs: Tensor, name: str) -> KVCache:
    """The cache, if it is of the beginning of inputs [B, S, …]; a new one for None."""
    cache = KVCache() if cache is None else cache
    if len(cache) >= inputs.shape[1]:
        raise InputError(
            f"{name} must hold the {len(cache)} positions of past_key_values and at least one more, got "
            f"{inputs.shape[1]}"
        )
    if len(cache) and cache.batch_size != len(inputs):
        raise InputError(f"{name} must have the {cache.batch_size} rows of past_key_values, got {len(inputs)}")
    return cache


def _checked(mask: Tensor | None, shape: list[int], name: str) -> Tensor | None:
    """The mask as bool, None where it hides nothing."""
    if mask is not None and list(mask.shape) != shape:
        raise InputError(f"attention_mask must have the shape of {name}, {shape}, got {described(mask)}")
    if mask is None or mask.bool().all():
        return None
    _check_left(mask.bool())
    return mask.bool()


def _check_left(mask: Tensor) -> None:
    wrong = (mask.long().diff(dim=1) < 0).any(1) | ~mask[:, -1]
    if wrong.any():
        raise InputError(
            f"rows must be padded on the left, since generation continues after the last position, got padding after "
            f"a token in row {int(wrong.nonzero()[0, 0])}"
        )


def pad_left(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Pad rows to ids [B, S] and mask [B, S]; the mask is None for rows of equal length."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    if (lengths == longest).all():
        return ids, None
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]
