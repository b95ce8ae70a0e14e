"""Scores of the next token, [N, V] float32, changed: pure functions; tokens so far are ids [N, n].

Each is the formula of transformers' processor of the same purpose. An excluded token has −inf.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def penalise(scores: Tensor, ids: Tensor, penalty: float, padding: Tensor | None = None) -> Tensor:
    """Lower the scores of ids [N, n]: divide positive ones by the penalty, multiply negative ones.

    Args:
        padding: [N], how many of the ids are padding, on the left.
    """
    vocabulary = scores.shape[-1]
    if padding is not None:
        ids = ids.masked_fill(torch.arange(ids.shape[1], device=ids.device) < padding[:, None], vocabulary)
    seen = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
    seen = seen.scatter_(1, ids, True)[:, :vocabulary]
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def exclude(scores: Tensor, tokens: Sequence[int]) -> Tensor:
    """Exclude tokens."""
    return scores.index_fill(-1, torch.tensor(tokens, dtype=torch.int64, device=scores.device), -math.inf)


def force(scores: Tensor, tokens: Sequence[int]) -> Tensor:
    """Exclude all other tokens, and give these the score 0."""
    chosen = torch.tensor(tokens, dtype=torch.int64, device=scores.device)
    return torch.full_like(scores, -math.inf).index_fill_(-1, chosen, 0.0)


def exclude_repeated_ngrams(scores: Tensor, ids: Tensor, size: int) -> Tensor:
    """Exclude what would complete ``size`` tokens in a row that occurred already."""
    if ids.shape[1] < size:
        return scores
    ngrams = ids.unfold(1, size, 1)  # [N, n − size + 1, size]
    complete = (ngrams[..., :-1] == ids[:, None, ids.shape[1] - size + 1 :]).all(-1)
    vocabulary = scores.shape[-1]
    tokens = ngrams[..., -1].masked_fill(~complete, vocabulary)
    repeated = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
    return scores.masked_fill(repeated.scatter_(1, tokens, True)[:, :vocabulary], -math.inf)


def add_biases(scores: Tensor, ids: Tensor, biases: Mapping[tuple[int, ...], float]) -> Tensor:
    """Add a bias to the last token of each sequence of tokens whose other tokens end the row; −inf excludes it."""
    total = torch.zeros_like(scores)
    for (*prefix, last), bias in biases.items():
        if len(prefix) <= ids.shape[1]:
            end = ids[:, ids.shape[1] - len(prefix) :]
            complete = (end == torch.tensor(prefix, dtype=torch.int64, device=ids.device)).all(-1)
            total[:, last] += torch.where(complete, bias, 0.0)
    return scores + total


def keep_allowed(scores: Tensor, ids: Tensor, allowed: Callable[[int, Tensor], Sequence[int]], width: int) -> Tensor:
    """Exclude what ``allowed(prompt, ids [n])`` does not list; a prompt has ``width`` rows."""
    mask = torch.full_like(scores, -math.inf)
    for row, tokens in enumerate(ids):
        mask[row, list(allowed(row // width, tokens))] = 0.0
    return scores + mask


def raise_ends(scores: Tensor, ends: Sequence[int], factor: float, late: int) -> Tensor:
    """Raise the scores of stop ids by |score| · (factor^late − 1)."""
    chosen = torch.tensor(ends, dtype=torch.int64, device=scores.device)
    raised = scores[:, chosen].abs() * (factor**late - 1)
    return scores.index_add(-1, chosen, raised.masked_fill(~torch.isfinite(scores[:, chosen]), 0.0))


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Keep the k best of each row, and ties with the k-th; exclude the others."""
    kth = scores.topk(min(k, scores.shape[-1])).values[..., -1:]
    return scores.masked_fill(scores < kth, -math.inf)


def keep_top_p(scores: Tensor, p: float, min_tokens: int = 1) -> Tensor:
    """Keep the best of each row whose probabilities first reach ``p``; exclude the others."""
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p
    dropped[..., -min_tokens:] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -math.inf)


def keep_min_p(scores: Tensor, share: float, min_tokens: int = 1) -> Tensor:
    """Keep probabilities of at least this share of the best of the row; exclude the others."""
    probabilities = scores.softmax(-1)
    dropped = probabilities < share * probabilities.amax(-1, keepdim=True)
    dropped.scatter_(-1, probabilities.topk(min(min_tokens, scores.shape[-1])).indices, False)
    return scores.masked_fill(dropped, -math.inf)


def keep_typical(scores: Tensor, mass: float, min_tokens: int = 1) -> Tensor:
    """Keep tokens whose surprise is nearest to the row's entropy until their probabilities reach ``mass``."""
    logs = F.log_softmax(scores, dim=-1)
    entropy = -(logs * logs.exp()).nansum(-1, keepdim=True)
    distance, order = (-logs - entropy).abs().sort()
    reached = (scores.gather(-1, order).softmax(-1).cumsum(-1) < mass).sum(-1, keepdim=True)
    dropped = distance > distance.gather(-1, reached.clamp_(max=scores.shape[-1] - 1))
    dropped[..., :min_tokens] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -math.inf)


def keep_above(scores: Tensor, least: float | Tensor, min_tokens: int = 1) -> Tensor:
    """Keep probabilities of at least ``least``, a number or [N, 1]; exclude the others."""
    best = scores.topk(min(min_tokens, scores.shape[-1])).values[..., -1:]
    return scores.masked_fill((scores.softmax(-1) < least) & (scores < best), -math.inf)


def eta_threshold(scores: Tensor, eta: float) -> Tensor:
    """[N, 1]: min(eta, √eta · exp(−entropy of the row))."""
    entropy = torch.distributions.Categorical(logits=scores).entropy()[..., None]
    return ((eta**0.5) * torch.exp(-entropy)).clamp(max=eta)


def finite(scores: Tensor) -> Tensor:
    """0 for NaN, and the largest and smallest numbers for the infinite ones."""
    limits = torch.finfo(scores.dtype)
    return torch.nan_to_num(scores, nan=0.0, posinf=limits.max, neginf=limits.min)
