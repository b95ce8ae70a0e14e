"""Processing of logits to the scores of the next token: pure functions of [N, V]."""

import torch
from torch import Tensor

from mixtral_probe.model.generation.options import GenerationOptions


def process(scores: Tensor, ids: Tensor, options: GenerationOptions, padding: Tensor | None = None) -> Tensor:
    """Apply the options, in the order of transformers.

    Args:
        scores: [N, V] float32, logits or log probabilities.
        ids: [N, n], the tokens so far.
        padding: [N], how many of them are padding, on the left.
    """
    if options.repetition_penalty != 1.0:
        scores = penalise(scores, ids, options.repetition_penalty, padding)
    if not options.do_sample:
        return scores
    # beam search continues with tokens that do not end a row: one candidate more than stop ids
    min_tokens = 1 if options.num_beams == 1 else max(2, len(options.ends) + 1)
    if options.temperature != 1.0:
        scores = scores / options.temperature
    if options.top_k:
        scores = keep_top_k(scores, max(options.top_k, min_tokens))
    if options.top_p < 1.0:
        scores = keep_top_p(scores, options.top_p, min_tokens)
    if options.min_p is not None:
        scores = keep_min_p(scores, options.min_p, min_tokens)
    return scores


def penalise(scores: Tensor, ids: Tensor, penalty: float, padding: Tensor | None = None) -> Tensor:
    """Lower the scores of ids [N, n]: divide positive ones by the penalty, multiply negative ones."""
    vocabulary = scores.shape[-1]
    if padding is not None:
        ids = ids.masked_fill(torch.arange(ids.shape[1], device=ids.device) < padding[:, None], vocabulary)
    seen = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
    seen = seen.scatter_(1, ids, True)[:, :vocabulary]
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Keep the k best of each row, and ties with the k-th; set the others to −inf."""
    kth = scores.topk(min(k, scores.shape[-1])).values[..., -1:]
    return scores.masked_fill(scores < kth, -torch.inf)


def keep_top_p(scores: Tensor, p: float, min_tokens: int = 1) -> Tensor:
    """Keep the best of each row whose probabilities first reach ``p``; set the others to −inf."""
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p
    dropped[..., -min_tokens:] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)


def keep_min_p(scores: Tensor, share: float, min_tokens: int = 1) -> Tensor:
    """Keep probabilities of at least this share of the best of the row; set the others to −inf."""
    probabilities = scores.softmax(-1)
    dropped = probabilities < share * probabilities.amax(-1, keepdim=True)
    dropped.scatter_(-1, probabilities.topk(min(min_tokens, scores.shape[-1])).indices, False)
    return scores.masked_fill(dropped, -torch.inf)
