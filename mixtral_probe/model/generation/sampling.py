"""Greedy search and sampling: one sequence per row."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.logits import process
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.stopping import Stops

Streamer = Callable[[Tensor], None]
Generators = torch.Generator | Sequence[torch.Generator] | None
"""Random generators: one for all rows, one for each, or the default one of torch."""


def sample(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    stops: Stops,
    generator: Generators = None,
    streamer: Streamer | None = None,
    scores: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Extend every row to its end.

    Args:
        streamer: called with the tokens [B] of every step.
        scores: the scores [B, V] by which each step chose are appended here.

    Returns:
        sequences [B, S + n] and the number of new tokens of each row [B].
    """
    rows, start = prompt.ids.shape
    ids = prompt.ids.new_full((rows, stops.length), 0 if options.pad_token_id is None else options.pad_token_id)
    ids[:, :start] = prompt.ids
    running = torch.ones(rows, dtype=torch.bool, device=ids.device)
    counts = torch.zeros(rows, dtype=torch.int64, device=ids.device)
    logits = feed.prefill()
    for end in range(start, stops.length):
        step_scores = process(logits, ids[:, :end], options, prompt.padding)
        if scores is not None:
            scores.append(step_scores)
        ids[:, end] = torch.where(running, choose(step_scores, options.do_sample, generator), ids[:, end])
        counts += running
        if streamer is not None:
            streamer(ids[:, end].clone())
        running = running & ~stops(ids[:, : end + 1])
        if not running.any():
            break
        logits = feed.step(ids[:, end], running)
    return ids[:, : end + 1], counts


def choose(scores: Tensor, random: bool, generator: Generators = None) -> Tensor:
    """[N, V] → [N]: the best token, or one drawn with probability softmax(scores)."""
    return draw(scores, 1, generator)[:, 0] if random else scores.argmax(-1)


def draw(scores: Tensor, count: int, generator: Generators = None) -> Tensor:
    """[N, V] → [N, count]: different places drawn with probability softmax(scores)."""
    probabilities = scores.softmax(-1)
    if isinstance(generator, Sequence):
        rows = zip(probabilities, generator, strict=True)
        return torch.stack([torch.multinomial(row, count, generator=row_generator) for row, row_generator in rows])
    return torch.multinomial(probabilities, count, generator=generator)
