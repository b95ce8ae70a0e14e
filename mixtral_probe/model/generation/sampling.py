"""Greedy search and sampling: one sequence per row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.output import Steps
from mixtral_probe.model.generation.processors import Scoring
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.stopping import Stops
from mixtral_probe.model.generation.streaming import TokenCallback

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Random generators: one for all rows, one for each, or the default one of torch."""


def sample(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    scoring: Scoring,
    stops: Stops,
    steps: Steps,
    generator: Generators = None,
    streamer: TokenCallback | None = None,
) -> dict[str, Tensor]:
    """Extend every row to its end.

    Args:
        prompt: what the feed begins with.
        scoring: from logits to the scores of each step.
        stops: where rows end.
        steps: keeps the logits and scores of each step.
        streamer: called with the tokens [B · R] of every step.

    Returns:
        the fields sequences and new_tokens of ``Generated``.
    """
    prompt = prompt.repeated(options.num_return_sequences)
    rows, start = prompt.ids.shape
    ids = prompt.ids.new_full((rows, stops.length), 0 if options.pad_token_id is None else options.pad_token_id)
    ids[:, :start] = prompt.ids
    running = torch.ones(rows, dtype=torch.bool, device=ids.device)
    counts = torch.zeros(rows, dtype=torch.int64, device=ids.device)
    logits = feed.prefill(options.num_return_sequences)
    for end in range(start, stops.length):
        scores = scoring(ids[:, :end], logits)
        steps.add(logits, scores)
        ids[:, end] = torch.where(running, choose(scores, options.do_sample, generator), ids[:, end])
        counts += running
        if streamer is not None:
            streamer(ids[:, end].clone())
        running = running & ~stops(ids[:, : end + 1], steps.scores)
        if not running.any():
            break
        logits = feed.step(ids[:, end], running)
    return {"sequences": ids[:, : end + 1], "new_tokens": counts}


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
