"""The text after each document: without edits, with them, and with draws of their placebo.

A placebo damages as many assignments of the prompt as the edits do, and of new tokens as many as they do while they
continue the text, layer by layer and rank by rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from mixtral_probe.experiments.matched_placebo import Damage, Placebo, RecordedRouting, matched_placebo
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.instruments.edits.edit import PlacedEdit
from mixtral_probe.instruments.generated_damage import InPrompt
from mixtral_probe.instruments.recorder import widened
from mixtral_probe.model import ForwardContext, Instrument, Routing, Site
from mixtral_probe.model.moe import choose_experts
from mixtral_probe.run import Passes, Plan, RunOptions, Subject, new_text
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.edit_binding import bind_edits
from mixtral_probe.trace.results import RUNS


@dataclass
class Continuations:
    """The new texts of all documents, and how long they are that without edits."""

    draws: int
    texts: dict[str, list[str]] = field(default_factory=lambda: {RUNS[0]: [], RUNS[1]: []})
    """By run, one for each document: without edits, and with them."""
    placebo: list[list[str]] = field(default_factory=list)
    """[documents][draws]"""
    tokens: list[int] = field(default_factory=list)
    """[documents] new tokens without edits."""
    kept: list[int] = field(default_factory=list)
    """[documents] those before the first other one with the edits."""
    draw_kept: list[list[int]] = field(default_factory=list)
    """[documents][draws] the same with the placebo."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers, as fields of the result."""
        arrays = {"continuation_tokens": np.array(self.tokens), "continuation_kept": np.array(self.kept)}
        return arrays | ({"draw_continuation_kept": np.array(self.draw_kept).T} if self.draws else {})


def continuations(
    subject: Subject, planned: Plan, options: RunOptions, edits: Sequence[Edit], count: int, draws: int, seed: int
) -> Continuations:
    """Continue every document by at most ``count`` tokens."""
    found = Continuations(draws)
    passes = Passes(replace(options, on_progress=None))
    for number in range(len(planned.documents)):
        ids = planned.token_ids[planned.tokens["document"].to_numpy() == number]
        window = Window(number, 0, 0, len(ids))
        batch = Batch.of(ids, [window], subject.device)
        document = _Prompt(subject, replace(planned, windows=(window,)), batch, count, tuple(edits), passes)
        document.run(found, max(1, options.positions_in_a_batch // batch.size), seed)
    return found


@dataclass
class _Prompt:
    """One document to be continued."""

    subject: Subject
    planned: Plan
    """The document alone."""
    batch: Batch
    count: int
    edits: tuple[Edit, ...]
    passes: Passes

    def run(self, found: Continuations, at_once: int, seed: int) -> None:
        """Continue it without edits, with them, and with the draws, so many of them at once."""
        placed = bind_edits(self.edits, self.planned.documents, self.batch.windows)
        top_k = self.subject.config.num_experts_per_tok
        before, after = _Recorder(top_k), _Recorder(top_k, placed)
        base, edited = (self._generate(recorder.instruments, 1)[0] for recorder in (before, after))
        drawn: list[list[int]] = []
        placebo = _Drawn.of(self, before, after, seed) if found.draws else None
        for first in range(0, found.draws, at_once):
            some = range(first, min(first + at_once, found.draws))
            assert placebo is not None
            drawn += self._generate(placebo.instruments(self.batch, some), len(some))
        for name, new in zip(RUNS, (base, edited), strict=False):
            found.texts[name].append(self._text(new))
        found.placebo.append([self._text(new) for new in drawn])
        found.tokens.append(len(base))
        found.kept.append(_common(base, edited))
        found.draw_kept.append([_common(base, new) for new in drawn])

    def _generate(self, instruments: Sequence[Instrument], copies: int) -> list[list[int]]:
        """The new tokens of some copies of the document."""
        prompt = self.batch.ids.repeat(copies, 1)
        with self.passes.step():
            generated: Any = self.subject.model.generate(
                prompt, max_new_tokens=self.count, attention_mask=torch.ones_like(prompt), do_sample=False, num_beams=1,
                num_return_sequences=1, pad_token_id=0, return_dict_in_generate=True, instruments=instruments,
                tokenizer=self.subject.tokenizer,
            )  # fmt: skip
        rows = zip(generated.sequences[:, prompt.shape[1] :].tolist(), generated.new_tokens.tolist(), strict=True)
        return [new[:length] for new, length in rows]

    def _text(self, new: Sequence[int]) -> str:
        return new_text(self.subject.tokenizer, self.batch.ids[0].tolist(), new)


@dataclass(frozen=True)
class _Drawn:
    """The placebo of the edits of one document: of what they touch in the prompt, and in the tokens they generate."""

    prompt: Placebo
    generated: Placebo

    @classmethod
    def of(cls, document: _Prompt, before: "_Recorder", after: "_Recorder", seed: int) -> "_Drawn":
        """Match the edits, where they were recorded, with the prompt without them and what the router would choose."""
        config, (window,) = document.subject.config, document.batch.windows
        top_k = config.num_experts_per_tok
        width = max([top_k, *(edit.most_experts(top_k) for edit in document.edits)])
        base, edited, unedited = (
            _joined(seen, config.num_hidden_layers, width) for seen in (before.seen, after.seen, after.unedited.seen)
        )
        meant, read, new = after.meant(), slice(0, window.length), slice(window.length, None)
        placebos = [
            matched_placebo(
                document.edits, config, replace(document.planned, windows=(part,)), meant[:, rows],
                _rows(first, rows), _rows(edited, rows), seed,
            )
            for part, rows, first in (
                (window, read, base),
                (replace(window, chunk=1, length=meant.shape[1] - window.length), new, unedited),
            )
        ]  # fmt: skip
        return cls(*placebos)

    def instruments(self, batch: Batch, draws: Sequence[int]) -> list[Instrument]:
        """The instruments of a generation of the document repeated for some draws."""
        instruments: list[Instrument] = []
        for part in self.prompt.parts:  # other heads are changed in the prompt and after it
            of_part = part.instruments(batch, draws)
            instruments += map(InPrompt, of_part) if isinstance(part, Damage) else of_part
        for part in self.generated.parts:
            instruments += part.generated(self.generated.windows[0], draws) if isinstance(part, Damage) else []
        return instruments


class _Choices(Instrument):
    """Keeps what the router would choose without edits, call by call and layer by layer."""

    sites = (Site.ROUTER_LOGITS,)

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self.seen: list[Routing] = []

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the choice, and return the logits unchanged."""
        self.seen.append(choose_experts(value, self._top_k))
        return value


class _Recorder(Instrument):
    """Keeps the choices of one generation with edits, and where their conditions hold."""

    sites = (Site.ROUTING,)

    def __init__(self, top_k: int, edits: Sequence[Instrument] = ()) -> None:
        self._edits = [edit for edit in edits if isinstance(edit, PlacedEdit)]
        self.unedited = _Choices(top_k)
        self.seen: list[Routing] = []
        self._meant: list[np.ndarray] = []

    @property
    def instruments(self) -> list[Instrument]:
        """The edits between what records the choice without them and with them."""
        return [self.unedited, *self._edits, self]

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the choice, and return it unchanged."""
        self.seen.append(value)
        if layer == 0:
            self._meant.append(np.array([edit.meant(context).cpu().numpy() for edit in self._edits]))
        return value

    def meant(self) -> np.ndarray:
        """[edits, T] bool, the tokens of the prompt and the new ones that meet the conditions of each edit."""
        return np.concatenate(self._meant, axis=1)


def _joined(seen: Sequence[Routing], layers: int, width: int) -> RecordedRouting:
    """The choices [L, T, K] of a generation of one row."""
    by_layer = [[widened(one, width) for one in seen[layer::layers]] for layer in range(layers)]
    ids = [torch.cat([one.expert_ids for one in calls]).cpu() for calls in by_layer]
    weights = [torch.cat([one.weights.float() for one in calls]).cpu() for calls in by_layer]
    return RecordedRouting(torch.stack(ids).numpy(), torch.stack(weights).numpy())


def _rows(routing: RecordedRouting, rows: slice) -> RecordedRouting:
    return RecordedRouting(routing.expert_ids[:, rows], routing.weights[:, rows])


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common before the first difference."""
    same = [a == b for a, b in zip(first, second, strict=False)]
    return (*same, False).index(False)
