"""One batch of prompts continued, and its forward calls as rows of a trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments import GenerationRecorder, RecordedCall, copier_for
from mixtral_probe.instruments.recorder import token_in_words
from mixtral_probe.instruments.routing_check import nonfinite_error
from mixtral_probe.model import Instrument
from mixtral_probe.model.generation import Feed, GenerationOptions, Prompt, continue_prompt
from mixtral_probe.model.generation.prompt import pad_left
from mixtral_probe.model.outputs import ModelOutput
from mixtral_probe.run.scoring import next_token_scores
from mixtral_probe.run.subject import Subject
from mixtral_probe.trace import AttentionPlan, TraceBuilder
from mixtral_probe.trace.finite import Nonfinite, skip_rows


class ScoringFeed(Feed):
    """A feed that also keeps the loss of each token, and the most probable next token after it.

    Args:
        before_step: called before each step; what it raises ends the generation.
    """

    def __init__(self, *arguments: Any, before_step: Callable[[], None] = lambda: None) -> None:
        super().__init__(*arguments)
        self.nll: list[Tensor] = []
        """For each call [N, n] float32, nats: of its tokens."""
        self.predicted: list[Tensor] = []
        """For each call [N, n] int64: the most probable next token after each of its tokens."""
        self._before_step, self._last = before_step, torch.empty(0)

    def step(self, tokens: Tensor, running: Tensor | None = None) -> Tensor:
        """As ``Feed.step``."""
        self._before_step()
        self.nll.append(self._last.logsumexp(-1, keepdim=True) - self._last.gather(1, tokens[:, None]))
        return super().step(tokens, running)

    def reorder(self, rows: Tensor) -> None:
        """As ``Feed.reorder``."""
        super().reorder(rows)
        self._last = self._last[rows]

    def logits(self, out: ModelOutput, ids: Tensor | None) -> Tensor:
        """As ``Feed.logits``; of the prompt every position is scored."""
        assert ids is not None
        last = super().logits(out, ids).float()
        best = last.argmax(-1, keepdim=True)
        if not self.predicted:
            hidden = out.last_hidden_state[:, :-1]
            nll, predicted = next_token_scores(self.model, hidden, ids, out.context, self.instruments)
            self.nll.append(nll)
            best = torch.cat((predicted, best), dim=1)
        self.predicted.append(best)
        self._last = last
        return last


@dataclass(frozen=True)
class Continuation:
    """One prompt with its new tokens, and the rows of the forward calls that belong to it."""

    prompt: list[int]
    new: list[int]
    """The last of them was never fed forward."""
    rows: list[int]
    """For each new token, the row of the call whose logits it was chosen from."""
    padding: int

    @property
    def fed(self) -> list[int]:
        """Prompt and new tokens that went through the model."""
        return self.prompt + self.new[:-1]

    @property
    def calls(self) -> list[tuple[int, int, slice]]:
        """(call, row in it, its tokens there) of every call that fed tokens of this prompt."""
        first = (0, self.rows[0], slice(self.padding, None))
        return [first, *((call, row, slice(0, 1)) for call, row in enumerate(self.rows) if call)]


@dataclass(frozen=True)
class ContinuedBatch:
    """Prompts continued together."""

    continuations: list[Continuation]
    seen: list[RecordedCall]
    nll: list[np.ndarray]
    predicted: list[np.ndarray]

    def fill(self, builder: TraceBuilder, number: int, start: int, nonfinite: Nonfinite) -> None:
        """Write continuation ``number`` into a builder, as that document, from row ``start`` on.

        Raises:
            InputError: the routing of a token is not finite, and such tokens are refused.
        """
        for call, row, tokens in self.continuations[number].calls:
            end = start + len(self.nll[call][row, tokens])
            builder.nll[start:end] = self.nll[call][row, tokens]
            builder.predicted_id[start:end] = self.predicted[call][row, tokens]
            for name in ("router_logits", "expert_ids", "expert_weights"):
                target = getattr(builder, name)
                for layer, values in getattr(self.seen[call], name).items():
                    rows = values[row, tokens]
                    target[layer, start:end, : rows.shape[1]] = rows
                    target[layer, start:end, rows.shape[1] :] = -1 if name == "expert_ids" else 0
            bad = np.stack([flags[row, tokens] for _, flags in sorted(self.seen[call].nonfinite.items())])
            self._skip(builder, slice(start, end), bad, nonfinite)
            start = end
        builder.nll[end - len(self.continuations[number].fed)] = np.nan
        if builder.attention_plan is not None:
            self._fill_attention(builder, builder.attention_plan, number)

    def _skip(self, builder: TraceBuilder, rows: slice, bad: np.ndarray, nonfinite: Nonfinite) -> None:
        """Take the choice away from the rows where bad [L, n] is True, or refuse them."""
        if nonfinite == "refuse" and bad.any():
            layer, row = (int(place) for place in np.argwhere(bad)[0])
            token = token_in_words(builder, rows.start + row)
            raise nonfinite_error(layer, token, str(builder.meta.dtype), can_skip=True)
        skip_rows(bad, builder.expert_ids[:, rows], builder.expert_weights[:, rows])

    def _fill_attention(self, builder: TraceBuilder, plan: AttentionPlan, number: int) -> None:
        continuation = self.continuations[number]
        assert builder.attention_sums is not None
        for layer, heads in plan.layers.items():
            builder.attention_sums["tokens"][layer, number] = len(continuation.fed)
            for name in ("entropy_bits", "distance", "sink"):
                parts = [
                    np.concatenate(self.seen[call].attention_sums[layer, row, name])
                    for call, row, _ in continuation.calls
                ]
                builder.attention_sums[name][layer, number, list(heads)] = np.sum(parts, axis=0)
            if plan.maps:
                lines = [
                    np.concatenate(self.seen[call].attention_maps[layer, row]) for call, row, _ in continuation.calls
                ]
                builder.attention_block(number, 0, layer)[...] = np.concatenate(lines, axis=1)


def continue_prompts(
    subject: Subject,
    prompts: Sequence[list[int]],
    options: GenerationOptions,
    generators: Sequence[torch.Generator] | None,
    attention: AttentionPlan | None,
    router_logits: bool,
    instruments: Sequence[Instrument],
    before_step: Callable[[], None],
) -> ContinuedBatch:
    """Continue a batch of prompts and record every call; ``generators`` are the sources of draws, one a prompt."""
    device = subject.device
    pad = 0 if options.pad_token_id is None else options.pad_token_id
    ids, mask = pad_left(list(prompts), pad, device)
    if mask is None:  # an id that pads elsewhere may begin a text
        mask = torch.ones_like(ids)
    prompt = Prompt.of(ids, mask, options)
    padding = [ids.shape[1] - len(tokens) for tokens in prompts]
    recorder = GenerationRecorder(attention, padding, router_logits, copier_for(device), edited=bool(instruments))
    feed = ScoringFeed(subject.model, prompt, (*instruments, recorder), before_step=before_step)
    generated = continue_prompt(feed, prompt, options, subject.tokenizer, generators)
    counts = generated.new_tokens.tolist()
    beams = generated.beam_indices
    rows = [[row] * n for row, n in enumerate(counts)] if beams is None else beams.tolist()
    new = generated.sequences[:, ids.shape[1] :].tolist()
    return ContinuedBatch(
        [
            Continuation(list(prompts[i]), new[i][:n], _rows(rows[i][:n], i, beams is not None), padding[i])
            for i, n in enumerate(counts)
        ],
        recorder.finish(),
        [values.cpu().numpy() for values in feed.nll],
        [values.cpu().numpy() for values in feed.predicted],
    )


def _rows(rows: list[int], prompt: int, beams: bool) -> list[int]:
    """The first call has one row for each prompt, also where beams come after it."""
    return [prompt, *rows[1:]] if beams else rows
