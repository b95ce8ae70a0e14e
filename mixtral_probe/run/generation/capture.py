"""Capture while generating: the trace of prompts and of their continuations, recorded as they are generated."""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import pandas as pd
import torch

from mixtral_probe.errors import InputError
from mixtral_probe.instruments import Window
from mixtral_probe.model import Instrument
from mixtral_probe.model.generation import GenerationOptions
from mixtral_probe.paths import checked_path
from mixtral_probe.run.capture import warn_of_skipped
from mixtral_probe.run.disk import added_bytes, record_bytes
from mixtral_probe.run.edit_binding import bind_edits, with_edits
from mixtral_probe.run.generation.continuation import Continuation, continue_prompts
from mixtral_probe.run.generation.streaming import new_text
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.passes import Passes
from mixtral_probe.run.plan import Plan, batches, longer
from mixtral_probe.run.provenance import run_meta
from mixtral_probe.run.subject import Subject
from mixtral_probe.run.trace_parts import TracePart, TraceParts
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta, run_name
from mixtral_probe.trace.finite import Nonfinite, require_nonfinite

RECORDER = "GrowingRecorder"
"""The recorder's name in the meta of traces. It is part of a run's name, by which an unfinished run is recognised."""
LABEL = "generated"
"""The label of a document whose value is the new text."""


def capture_generation(
    subject: Subject,
    prompts: Plan,
    options: RunOptions,
    choice: GenerationOptions,
    *,
    seed: int = 0,
    attention: AttentionPlan | None = None,
    router_logits: bool = True,
    path: str | PathLike[str] | None = None,
    instruments: Sequence[Instrument] = (),
    nonfinite: Nonfinite = "refuse",
) -> Trace:
    """Continue documents, and record the routing of them and of every new token that is fed forward.

    The trace has the schema of ``capture``; new tokens have the phase "decode", and the label "generated" is the new
    text of a document, whose last token has no row. Draws depend on ``seed`` and the document's id alone, not on how
    documents share batches. Complete batches are kept in ``<path>.parts``, and the same run continues after them; it
    can be stopped before every step. Other arguments and errors as in ``Probe.trace``.

    Args:
        prompts: planned with the window ``UNCUT``.
        choice: how each next token is chosen.
    """
    require_nonfinite(nonfinite)
    _check(prompts, choice, subject.config.max_position_embeddings)
    meta = with_edits(run_meta(subject, prompts.corpus, instruments, [RECORDER]), instruments)
    settings = json.loads(json.dumps(choice.settings() | {"seed": seed}))
    meta = meta.model_copy(update={"corpus": meta.corpus | {"generation": settings}})
    run = _Run(subject, prompts, options, choice, seed, meta, attention, router_logits, instruments, nonfinite)
    name = run_name(prompts.documents, prompts.tokens, meta, attention, router_logits)
    with TraceParts(None if path is None else checked_path(path), f"{name} {options.positions_in_a_batch}") as parts:
        if parts.path is not None:
            new = choice.max_new_tokens
            most = record_bytes(subject, prompts, attention, new) + added_bytes(subject, prompts, new)
            parts.require_space(2 * most)  # the parts and the trace that they are joined to
        run.fill(parts)
        trace = parts.joined(meta, attention, router_logits)
        parts.remove()
    warn_of_skipped(trace)
    return trace


@dataclass(frozen=True)
class _Run:
    subject: Subject
    prompts: Plan
    options: RunOptions
    choice: GenerationOptions
    seed: int
    meta: TraceMeta
    attention: AttentionPlan | None
    router_logits: bool
    instruments: Sequence[Instrument]
    nonfinite: Nonfinite

    def fill(self, parts: TraceParts) -> None:
        """Run every batch that is not among the parts yet."""
        windows = longer(self.prompts.windows, self.choice.max_new_tokens)
        pending = {
            number: batch
            for number, batch in enumerate(batches(windows, self.options.positions_in_a_batch))
            if parts.get(number) is None
        }
        tokens = sum(len(part.trace) for part in parts.ready)
        passes = Passes(
            self.options, documents=len(self.prompts.documents), tokens_done=tokens,
            tokens=tokens + sum(window.length for batch in pending.values() for window in batch),
            documents_done=sum(len(part.documents) for part in parts.ready),
        )  # fmt: skip
        for number, batch in pending.items():
            chosen = sorted(window.document for window in batch)
            with passes.step(sum(window.length for window in batch), len(batch)) as step:
                trace = self.continued(chosen, passes.check_stop)
                parts.put(number, TracePart(chosen, trace))
                step.tokens = len(trace)

    def continued(self, chosen: Sequence[int], before_step: Callable[[], None]) -> Trace:
        """The trace of some documents that are continued together."""
        rows = [self.prompts.tokens["document"] == number for number in chosen]
        ids = [self.prompts.token_ids[some].tolist() for some in rows]
        windows = [Window(number, 0, 0, len(tokens)) for number, tokens in zip(chosen, ids, strict=True)]
        batch = continue_prompts(
            self.subject, ids, self.choice, self._generators(chosen), self.attention, self.router_logits,
            bind_edits(self.instruments, self.prompts.documents, windows), before_step,
        )  # fmt: skip
        tokenizer = self.subject.tokenizer
        documents = _document_frame(self.prompts, chosen, batch.continuations, tokenizer)
        tokens = _token_frame(self.prompts.tokens, rows, batch.continuations, tokenizer)
        builder = TraceBuilder(documents, tokens, self.meta, attention=self.attention, record_logits=self.router_logits)
        start = 0
        for number, continuation in enumerate(batch.continuations):
            batch.fill(builder, number, start, self.nonfinite)
            start += len(continuation.fed)
        builder.mark_done(range(len(chosen)))
        return builder.finish()

    def _generators(self, chosen: Sequence[int]) -> list[torch.Generator] | None:
        if not self.choice.do_sample:
            return None
        ids = self.prompts.documents["id"]
        return [_generator(self.subject.device, f"{self.seed} {ids[number]}") for number in chosen]


def _generator(device: torch.device, text: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return torch.Generator(device).manual_seed(seed)


def _document_frame(
    prompts: Plan, chosen: Sequence[int], continuations: Sequence[Continuation], tokenizer: Tokenizer
) -> pd.DataFrame:
    texts = [new_text(tokenizer, c.prompt, c.new) for c in continuations]
    return prompts.documents.iloc[list(chosen)].assign(document=range(len(chosen)), **{LABEL: texts})


def _token_frame(
    prompts: pd.DataFrame, chosen: Sequence[pd.Series], continuations: Sequence[Continuation], tokenizer: Tokenizer
) -> pd.DataFrame:
    """The prompts' rows, each prompt's followed by those of its new tokens, which have no place in its text."""
    frames: list[pd.DataFrame] = []
    for number, (rows, continuation) in enumerate(zip(chosen, continuations, strict=True)):
        known, new = prompts[rows].assign(document=number), np.array(continuation.new[:-1], dtype=np.int32)
        frames.append(known.astype({"piece": object, "start": "Int32", "end": "Int32"}))
        decoded = {"document": number, "chunk": 0, "position": np.arange(len(known), len(known) + len(new))}
        decoded |= {"token_id": new, "piece": tokenizer.pieces(new, chosen=True), "phase": "decode"}
        decoded |= {"start": pd.array([None] * len(new), "Int32"), "end": pd.array([None] * len(new), "Int32")}
        decoded |= {"special": np.isin(new, list(tokenizer.special_ids))}
        if len(new):
            frames.append(pd.DataFrame(decoded))
    return pd.concat(frames, ignore_index=True)


def _check(prompts: Plan, options: GenerationOptions, limit: int) -> None:
    if LABEL in prompts.documents:
        raise InputError(f"the label {LABEL!r} is reserved for the new text, got documents that have it; rename theirs")
    longest = max(window.length for window in longer(prompts.windows, options.max_new_tokens))
    if longest > limit:
        warnings.warn(
            f"prompt and new tokens, {longest} of them, go beyond the model's {limit} positions, "
            "for which it was not trained", stacklevel=5,
        )  # fmt: skip
