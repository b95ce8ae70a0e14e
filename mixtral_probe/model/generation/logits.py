"""From the model's logits to the scores a token is chosen by: pure functions of [N, V]."""

import torch
from torch import Tensor

from mixtral_probe.model.generation.options import GenerationOptions


def processed(scores: Tensor, ids: Tensor, options: GenerationOptions, padding: Tensor | None = None) -> Tensor:
    """Everything the options ask for, in the order in which transformers does it.

    Args:
        scores: [N, V] float32, logits or log probabilities.
        ids: [N, n], the tokens so far.
        padding: [N], how many of them are padding on the left.
    """
    if options.repetition_penalty != 1.0:
        scores = penalised(scores, ids, options.repetition_penalty, padding)
    if not options.do_sample:
        return scores
    # beam search goes on with what does not end a row, so it needs one candidate more than there are ends
    at_least = 1 if options.num_beams == 1 else max(2, len(options.ends) + 1)
    if options.temperature != 1.0:
        scores = scores / options.temperature
    if options.top_k:
        scores = only_top_k(scores, max(options.top_k, at_least))
    if options.top_p < 1.0:
        scores = only_top_p(scores, options.top_p, at_least)
    if options.min_p is not None:
        scores = only_min_p(scores, options.min_p, at_least)
    return scores


def penalised(scores: Tensor, ids: Tensor, penalty: float, padding: Tensor | None = None) -> Tensor:
    """Tokens among ids [N, n] made less likely: positive scores divided by the penalty, negative ones multiplied."""
    nowhere = scores.shape[-1]
    if padding is not None:
        ids = ids.masked_fill(torch.arange(ids.shape[1], device=ids.device) < padding[:, None], nowhere)
    seen = torch.zeros(len(scores), nowhere + 1, dtype=torch.bool, device=scores.device)
    seen = seen.scatter_(1, ids, True)[:, :nowhere]
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def only_top_k(scores: Tensor, k: int) -> Tensor:
    """The k best of each row, ties with the k-th too; the others −inf."""
    kth = scores.topk(min(k, scores.shape[-1])).values[..., -1:]
    return scores.masked_fill(scores < kth, -torch.inf)


def only_top_p(scores: Tensor, p: float, at_least: int = 1) -> Tensor:
    """The best of each row whose probabilities first reach ``p``; the others −inf."""
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p
    dropped[..., -at_least:] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)


def only_min_p(scores: Tensor, share: float, at_least: int = 1) -> Tensor:
    """What has at least this share of the probability of its row's best; the others −inf."""
    probabilities = scores.softmax(-1)
    dropped = probabilities < share * probabilities.amax(-1, keepdim=True)
    dropped.scatter_(-1, probabilities.topk(min(at_least, scores.shape[-1])).indices, False)
    return scores.masked_fill(dropped, -torch.inf)
