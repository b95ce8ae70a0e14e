"""One sequence per row: the best token at every step, or a drawn one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.logits import processed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.stopping import Stops

Streamer = Callable[[Tensor], None]
Source = torch.Generator | Sequence[torch.Generator] | None
"""Of draws: one for all rows, one for each, or torch's own."""


def sample(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    stops: Stops,
    generator: Source = None,
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


def choose(scores: Tensor, random: bool, generator: Source = None) -> Tensor:
    """[N, V] → [N]: the best token, or one drawn with probability softmax(scores)."""
    return drawn(scores, 1, generator)[:, 0] if random else scores.argmax(-1)


def drawn(scores: Tensor, count: int, generator: Source = None) -> Tensor:
    """[N, V] → [N, count]: different places drawn with probability softmax(scores)."""
    probabilities = scores.softmax(-1)
    if isinstance(generator, Sequence):
        rows = zip(probabilities, generator, strict=True)
        return torch.stack([torch.multinomial(row, count, generator=own) for row, own in rows])
    return torch.multinomial(probabilities, count, generator=generator)
