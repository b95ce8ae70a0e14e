"""Beam search: the ``num_beams`` most probable sequences side by side.

Finished and running sequences are kept apart. A step has enough candidates that, even if every stop id is among them
for every beam, ``num_beams`` are left to run.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtral_probe.model.generation.feed import Feed
from mixtral_probe.model.generation.options import GenerationOptions
from mixtral_probe.model.generation.output import Steps
from mixtral_probe.model.generation.processors import Scoring
from mixtral_probe.model.generation.prompt import Prompt
from mixtral_probe.model.generation.sampling import Generators, draw
from mixtral_probe.model.generation.stopping import Stops

EXCLUDED = -1e9
"""The score of excluded candidates: finite, so that sums of it stay comparable."""


@dataclass(frozen=True, slots=True)
class Beams:
    """W sequences for each of the B prompts."""

    ids: Tensor
    """[B, W, length]."""
    scores: Tensor
    """[B, W]: log probability of the new tokens; once finished, over their number to the length penalty."""
    rows: Tensor
    """[B, W, n]: the row of each call whose logits a new token was chosen from; −1 where there is none."""
    done: Tensor
    """[B, W] bool."""

    def take(self, places: Tensor) -> "Beams":
        """The beams at places [B, W'] of axis 1."""
        batch = torch.arange(len(places), device=places.device)[:, None]
        return Beams(*(part[batch, places] for part in (self.ids, self.scores, self.rows, self.done)))

    def concatenate(self, other: "Beams") -> "Beams":
        """Both, concatenated along axis 1."""
        return Beams(
            torch.cat((self.ids, other.ids), dim=1),
            torch.cat((self.scores, other.scores), dim=1),
            torch.cat((self.rows, other.rows), dim=1),
            torch.cat((self.done, other.done), dim=1),
        )

    def best(self, count: int, start: int) -> dict[str, Tensor]:
        """The fields of ``Generated`` of the first ``count`` beams, whose new tokens begin at ``start``."""
        rows = self.rows[:, :count].flatten(0, 1)
        new_tokens = (rows >= 0).sum(1)
        length = int(new_tokens.max())
        return {
            "sequences": self.ids[:, :count, : start + length].flatten(0, 1),
            "new_tokens": new_tokens,
            "sequences_scores": self.scores[:, :count].flatten(),
            "beam_indices": rows[:, :length],
        }


def beam_search(
    feed: Feed,
    prompt: Prompt,
    options: GenerationOptions,
    scoring: Scoring,
    stops: Stops,
    steps: Steps,
    generator: Generators = None,
) -> Beams:
    """Return the finished beams, best first. Arguments as in ``sample``."""
    width, start = options.num_beams, prompt.ids.shape[1]
    running, finished = _start(prompt, options, stops.length)
    improvable = torch.ones(len(prompt.ids), 1, dtype=torch.bool, device=prompt.ids.device)
    logits = feed.prefill(width)
    for end in range(start, stops.length):
        new_tokens = end + 1 - start
        step_scores = scoring(running.ids[..., :end].flatten(0, 1), F.log_softmax(logits, -1))
        steps.add(logits, step_scores)
        candidates = _candidates(step_scores, running, options, end, start, generator)
        ended = stops(candidates.ids[..., : end + 1].flatten(0, 1), steps.scores).view_as(candidates.scores)
        running = _still_running(candidates, ended, width)
        finished = _with_finished(finished, candidates, ended, improvable, new_tokens, options)
        improvable = improvable & _can_improve(running, finished, new_tokens, stops.length - start, options)
        full = options.early_stopping is True and bool(finished.done.all())
        if full or bool(ended.all()) or not bool(improvable.any()):
            break
        feed.reorder(running.rows[..., new_tokens - 1].flatten())
        logits = feed.step(running.ids[..., end].flatten())
    return finished


def _start(prompt: Prompt, options: GenerationOptions, length: int) -> tuple[Beams, Beams]:
    """The prompt as the only running beam that is not excluded, and no finished one."""
    batch, start = prompt.ids.shape
    shape = (batch, options.num_beams)
    pad = options.pad_token_id or next(iter(options.ends), 0)  # as in transformers, where a padding id of 0 is none
    ids = prompt.ids.new_full((*shape, length), pad)
    ids[..., :start] = prompt.ids[:, None]
    scores = torch.full(shape, EXCLUDED, device=ids.device)
    rows = ids.new_full((*shape, length - start), -1)
    none = torch.zeros(shape, dtype=torch.bool, device=ids.device)
    first = scores.clone()
    first[:, 0] = 0.0
    return Beams(ids, first, rows, none), Beams(ids, scores, rows, none)


def _candidates(
    step_scores: Tensor, running: Beams, options: GenerationOptions, end: int, start: int,
    generator: Generators,
) -> Beams:  # fmt: skip
    """The best continuations, or sampled ones: max(2, 1 + stop ids) · num_beams for each prompt."""
    batch, width = running.scores.shape
    count, vocabulary = max(2, 1 + len(options.ends)) * width, step_scores.shape[-1]
    total = (step_scores.view(batch, width, vocabulary) + running.scores[..., None]).flatten(1)
    if options.do_sample:
        places = draw(total, count, generator)
        scores = total.gather(1, places)
    else:
        scores, places = total.topk(count)
    parents = places // vocabulary
    extended = running.take(parents)
    extended.ids[..., end] = places % vocabulary
    extended.rows[..., end - start] = parents + torch.arange(batch, device=parents.device)[:, None] * width
    return Beams(extended.ids, scores, extended.rows, extended.done)


def _still_running(candidates: Beams, ended: Tensor, width: int) -> Beams:
    scores = candidates.scores + ended * EXCLUDED
    best, places = scores.topk(width)
    kept = candidates.take(places)
    return Beams(kept.ids, best, kept.rows, kept.done)


def _with_finished(
    finished: Beams, candidates: Beams, ended: Tensor, improvable: Tensor, new_tokens: int, options: GenerationOptions
) -> Beams:
    """The best of the finished beams and of those of the first ``num_beams`` candidates that end now."""
    width = options.num_beams
    first = torch.arange(ended.shape[1], device=ended.device) < width
    done = ended & first
    closed = ~improvable | (finished.done.all(1, keepdim=True) & (options.early_stopping is True))
    scores = candidates.scores / new_tokens**options.length_penalty + (closed | ~done) * EXCLUDED
    merged = finished.concatenate(Beams(candidates.ids, scores, candidates.rows, done))
    return merged.take(merged.scores.topk(width).indices)


def _can_improve(running: Beams, finished: Beams, new_tokens: int, most: int, options: GenerationOptions) -> Tensor:
    """[B, 1]: whether the best running beam may still exceed the worst finished one."""
    longest = most if options.early_stopping == "never" and options.length_penalty > 0 else new_tokens
    possible = running.scores[:, :1] / longest**options.length_penalty
    worst = torch.where(finished.done.all(1, keepdim=True), finished.scores.amin(1, keepdim=True), EXCLUDED)
    return possible > worst
