"""A larger or smaller vocabulary."""

import torch
from torch import Tensor, nn

from mixtral_probe.errors import InputError
from mixtral_probe.model.base import BaseModel

COVARIANCE_SHARE = 1e-9
"""Covariance of new rows as a share of that of the old ones."""
_ROWS_AT_ONCE = 256  # rows drawn at once: each takes V random numbers


@torch.no_grad()
def resize_token_embeddings(
    model: BaseModel,
    new_num_tokens: int | None = None,
    pad_to_multiple_of: int | None = None,
    mean_resizing: bool = True,
) -> nn.Embedding:
    """Change the number of rows of the embedding and of a language head; returns the embedding.

    Rows are cut off or added at the end. A new row near the mean of the old ones hardly changes the probabilities of
    the old tokens (Hewitt 2021, "Initializing new word embeddings for pretrained language models").

    Args:
        new_num_tokens: rows, the new vocab_size; None for as many as there are.
        pad_to_multiple_of: round the rows up to a multiple of this number, as fast products of matrices want it.
        mean_resizing: draw new rows from a normal distribution with the old rows' mean and a billionth of their
            covariance, as transformers does; without, with mean 0 and ``initializer_range``.

    Raises:
        InputError: a number is not positive, or the size is not above the padding token.
    """
    config, old, head = model.config, model.get_input_embeddings(), model.get_output_embeddings()
    size = config.vocab_size if new_num_tokens is None else new_num_tokens
    _check(size, config.pad_token_id)
    size = size if pad_to_multiple_of is None else _rounded_up(size, pad_to_multiple_of)
    if size == config.vocab_size:
        return old
    tied = head is not None and head.weight is old.weight
    std = None if mean_resizing else config.initializer_range
    old.weight = _resized(old.weight, size, std)
    old.num_embeddings = size
    if head is not None:
        head.weight = old.weight if tied else _resized(head.weight, size, std)
        head.out_features = size
    model.config = config.replace(vocab_size=size)
    return old


def _check(size: int, padding: int | None) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"the size of a vocabulary must be a whole number of at least 1, got {size!r}")
    if padding is not None and padding >= size:
        raise InputError(f"the size of a vocabulary must be above the config's pad_token_id, {padding}, got {size}")


def _rounded_up(size: int, multiple: int) -> int:
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise InputError(f"pad_to_multiple_of must be a whole number of at least 1, got {multiple!r}")
    return -(-size // multiple) * multiple


def _resized(weight: Tensor, size: int, std: float | None) -> nn.Parameter:
    """[V, C] → [size, C]; new rows with standard deviation ``std``, or near the mean where it is None."""
    old, width = weight.shape
    added = size - old
    if added > 0:
        new = weight.new_empty(added, width)
        if not weight.is_meta:
            new = _near_mean(weight.float(), added).to(weight.dtype) if std is None else new.normal_(0.0, std)
        weight = torch.cat((weight, new))
    return nn.Parameter(weight[:size].clone(), weight.requires_grad)


def _near_mean(rows: Tensor, added: int) -> Tensor:
    """[added, C] of N(mean, COVARIANCE_SHARE · covariance) of the rows [V, C].

    With deviations X − mean as the factor of the covariance no decomposition is needed, which could fail where there
    are fewer rows than columns.
    """
    mean = rows.mean(0)
    factor = (rows - mean) * (COVARIANCE_SHARE / len(rows)) ** 0.5  # factorᵀ factor = COVARIANCE_SHARE · covariance
    sizes = [min(_ROWS_AT_ONCE, added - start) for start in range(0, added, _ROWS_AT_ONCE)]
    return torch.cat([mean + torch.randn(n, len(rows), device=rows.device) @ factor for n in sizes])
