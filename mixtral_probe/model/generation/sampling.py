"""One sequence per row: the best token at every step, or a drawn one."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.logits import processed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.stopping import Stops

Streamer = Callable[[Tensor], None]


def sample(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    stops: Stops,
    generator: torch.Generator | None = None,
    streamer: Streamer | None = None,
    scores: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Extend every row until all have ended.

    Args:
        streamer: called with the tokens [B] of every step as soon as they are chosen.
        scores: what the tokens of each step were chosen by is added here, [B, V].

    Returns:
        sequences [B, S + n] and the number of new tokens of each row [B].
    """
    rows, start = prompt.ids.shape
    ids = prompt.ids.new_full((rows, stops.length), 0 if options.pad_token_id is None else options.pad_token_id)
    ids[:, :start] = prompt.ids
    alive = torch.ones(rows, dtype=torch.bool, device=ids.device)
    counts = torch.zeros(rows, dtype=torch.int64, device=ids.device)
    logits = feed.prefill()
    for end in range(start, stops.length):
        chosen_by = processed(logits, ids[:, :end], options, prompt.padding)
        if scores is not None:
            scores.append(chosen_by)
        ids[:, end] = torch.where(alive, choose(chosen_by, options.do_sample, generator), ids[:, end])
        counts += alive
        if streamer is not None:
            streamer(ids[:, end].clone())
        alive = alive & ~stops(ids[:, : end + 1])
        if not alive.any():
            break
        logits = feed.step(ids[:, end], alive)
    return ids[:, : end + 1], counts


def choose(scores: Tensor, draw: bool, generator: torch.Generator | None = None) -> Tensor:
    """[N, V] → [N]: the best token, or one drawn with probability softmax(scores)."""
    if not draw:
        return scores.argmax(-1)
    return torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
