"""Growing and shrinking the vocabulary."""

import torch
from torch import Tensor, nn

from mixtral_probe.errors import InputError
from mixtral_probe.model.resizing.pruning import decoder, set_config

SPREAD = 1e-9
"""Share of the old rows' covariance that new rows are drawn with."""
_AT_ONCE = 256  # rows drawn together: each takes V random numbers


@torch.no_grad()
def resize_token_embeddings(model: nn.Module, size: int, mean_resizing: bool = True) -> nn.Embedding:
    """Give the embedding, and the language head where there is one, another number of rows; returns the embedding.

    Rows are cut off or added at the end. A new row hardly changes the probabilities of the old tokens when it is near
    their mean (Hewitt 2021, "Initializing new word embeddings for pretrained language models").

    Args:
        size: rows, the new vocab_size.
        mean_resizing: draw new rows from a normal distribution with the old rows' mean and a billionth of their
            covariance, as transformers does; without, with mean 0 and ``initializer_range``.

    Raises:
        InputError: the size is not positive, or leaves no room for the padding token.
    """
    body = decoder(model)
    _check(size, body.config.pad_token_id)
    if size == body.config.vocab_size:
        return body.embed_tokens
    old, head = body.embed_tokens, getattr(model, "lm_head", None)
    tied = head is not None and head.weight is old.weight
    std = None if mean_resizing else body.config.initializer_range
    old.weight = _resized(old.weight, size, std)
    old.num_embeddings = size
    if head is not None:
        head.weight = old.weight if tied else _resized(head.weight, size, std)
        head.out_features = size
    set_config(model, body.config.replace(vocab_size=size))
    return old


def _check(size: int, padding: int | None) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"the size of a vocabulary must be a whole number of at least 1, got {size!r}")
    if padding is not None and padding >= size:
        raise InputError(f"the size of a vocabulary must be above the config's pad_token_id, {padding}, got {size}")


def _resized(weight: Tensor, size: int, std: float | None) -> nn.Parameter:
    """[V, C] → [size, C]; new rows as ``std`` says, or near the mean where it is None."""
    old, width = weight.shape
    added = size - old
    if added > 0:
        fresh = weight.new_empty(added, width)
        if not weight.is_meta:
            fresh = _near_mean(weight.float(), added).to(weight.dtype) if std is None else fresh.normal_(0.0, std)
        weight = torch.cat((weight, fresh))
    return nn.Parameter(weight[:size].clone(), weight.requires_grad)


def _near_mean(rows: Tensor, added: int) -> Tensor:
    """[added, C] of N(mean, SPREAD · covariance) of the rows [V, C].

    With deviations X − mean as the factor of the covariance, no decomposition is needed and none can fail, also where
    there are fewer rows than columns.
    """
    mean = rows.mean(0)
    factor = (rows - mean) * (SPREAD / len(rows)) ** 0.5  # factorᵀ factor = SPREAD · covariance
    sizes = [min(_AT_ONCE, added - start) for start in range(0, added, _AT_ONCE)]
    return torch.cat([mean + torch.randn(n, len(rows), device=rows.device) @ factor for n in sizes])
