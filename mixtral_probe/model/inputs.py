"""Checks of the arguments of ``forward``.

Values are checked on the CPU only: on an accelerator the host would have to wait for them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixtral_probe.errors import InputError

WITHOUT_EFFECT = (
    "cache_position", "token_type_ids", "num_items_in_batch", "shift_labels", "cu_seq_lens_q", "cu_seq_lens_k",
    "max_length_q", "max_length_k", "seq_idx",
)  # fmt: skip
"""Arguments of transformers that its Mixtral takes without any use for them, or that only a loss uses."""
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)
IGNORED = -100
"""The label of a position without a prediction."""


def require_known(arguments: Iterable[str]) -> None:
    """Raise InputError unless these further arguments of ``forward`` are among ``WITHOUT_EFFECT``."""
    for name in arguments:
        if name not in WITHOUT_EFFECT:
            raise InputError(
                f"further arguments of forward must be among {', '.join(WITHOUT_EFFECT)}, got {name!r}; leave it out"
            )


def require_ids(ids: Tensor, vocabulary: int) -> None:
    """Raise InputError unless ids are [B, S] whole numbers of the vocabulary."""
    if ids.dim() != 2 or ids.dtype not in _WHOLE:
        raise InputError(f"input_ids must be whole numbers [batch, positions], got {described(ids)}")
    if (wrong := _outside(ids, 0, vocabulary)) is not None:
        raise InputError(f"token ids must be in 0–{vocabulary - 1}, the model's vocabulary, got {wrong}")


def require_embeddings(embeddings: Tensor, width: int) -> None:
    """Raise InputError unless embeddings are [B, S, C] floats."""
    if embeddings.dim() != 3 or embeddings.shape[-1] != width or not embeddings.is_floating_point():
        raise InputError(f"inputs_embeds must be floats [batch, positions, {width}], got {described(embeddings)}")


def require_positions(positions: Tensor, batch: int, length: int) -> None:
    """Raise InputError unless positions are [B or 1, S] whole numbers."""
    fits = positions.dim() == 2 and positions.shape[0] in (1, batch) and positions.shape[1] == length
    if not fits or positions.dtype not in _WHOLE:
        raise InputError(f"position_ids must be whole numbers [{batch} or 1, {length}], got {described(positions)}")


def require_labels(labels: Tensor, logits: Tensor, ignored: int = IGNORED) -> None:
    """Raise InputError unless labels are [B, S] ids of the vocabulary or −100, one for each of the logits [B, S, V]."""
    if labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        raise InputError(
            f"labels must be int64 {list(logits.shape[:2])}, one for each position with logits, "
            f"got {described(labels)}; with labels leave logits_to_keep at 0"
        )
    if (wrong := _outside(labels[labels != ignored], 0, logits.shape[-1])) is not None:
        raise InputError(
            f"labels must be token ids in 0–{logits.shape[-1] - 1}, or {ignored} to be ignored, got {wrong}"
        )


def require_rows(rows: Tensor, count: int) -> None:
    """Raise InputError unless rows are [N] indices into the ``count`` rows of a cache."""
    if rows.dim() != 1 or rows.dtype not in (torch.int64, torch.int32):
        raise InputError(f"rows of a cache must be whole numbers [n], got {described(rows)}")
    if count and (wrong := _outside(rows, 0, count)) is not None:
        raise InputError(f"rows of a cache must be in 0–{count - 1}, those it holds, got {wrong}")


def kept_positions(hidden: Tensor, keep: int | Tensor) -> Tensor:
    """[B, n, C] of hidden states [B, S, C]: the last ``keep`` positions (0: all), or those of an index tensor.

    Args:
        keep: a number, or positions [n] for every row, or [B, n] for each.

    Raises:
        InputError: ``keep`` is neither, or a position does not exist.
    """
    batch, length, _ = hidden.shape
    if isinstance(keep, int) and not isinstance(keep, bool):
        if keep < 0:
            raise InputError(f"logits_to_keep must be a number of positions, 0 for all, got {keep}")
        return hidden[:, -keep:]
    if not isinstance(keep, Tensor) or keep.dtype not in _WHOLE or not _is_index(keep, batch):
        got = described(keep) if isinstance(keep, Tensor) else repr(keep)
        raise InputError(f"logits_to_keep must be a number or whole numbers [n] or [{batch}, n], got {got}")
    if (wrong := _outside(keep, -length, length)) is not None:
        raise InputError(f"logits_to_keep must name positions in 0–{length - 1}, got {wrong}")
    if keep.dim() == 1:
        return hidden[:, keep.to(hidden.device).long()]
    rows = torch.arange(batch, device=hidden.device)[:, None]
    return hidden[rows, keep.to(hidden.device).long()]


def _is_index(keep: Tensor, batch: int) -> bool:
    return keep.dim() == 1 or (keep.dim() == 2 and len(keep) == batch)


def _outside(numbers: Tensor, low: int, high: int) -> int | None:
    """A number outside low ≤ n < high, None where there is none or the numbers are on an accelerator."""
    if numbers.device.type != "cpu" or not numbers.numel():
        return None
    least, most = int(numbers.min()), int(numbers.max())
    return least if least < low else most if most >= high else None


def described(tensor: Tensor) -> str:
    """Dtype and shape of a tensor, for the sentences of errors."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
