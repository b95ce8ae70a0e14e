"""Capture while generating: the trace of prompts and of what the model said to them, recorded as it was said."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mixtral_probe.corpus import Document
from mixtral_probe.errors import InputError
from mixtral_probe.instruments import GrowingRecorder, Window
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.model.generation import GenerationOptions
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.attached import attached, with_edits
from mixtral_probe.run.continuation import Continuation, continued
from mixtral_probe.run.parts import Part, Parts
from mixtral_probe.run.plan import Plan, batches, longer, plan
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, ShouldStop, Tracker
from mixtral_probe.run.provenance import run_meta
from mixtral_probe.run.streaming import new_text
from mixtral_probe.stats import save_beside
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta, run_name

LABEL = "generated"
"""The label of a document that holds the new text."""
UNCUT = 2**31 - 1


def capture_generation(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    options: GenerationOptions,
    *,
    seed: int = 0,
    add_special_tokens: bool = True,
    attention: AttentionPlan | None = None,
    router_logits: bool = True,
    path: str | PathLike[str] | None = None,
    model_name: str = "",
    corpus_name: str = "",
    instruments: Sequence[Instrument] = (),
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int,
) -> Trace:
    """Continue documents and record what the routers did with them and with every new token that was fed forward.

    The trace has the schema of ``capture``; new tokens have the phase "decode", and the label "generated" is the new
    text of a document, whose last token has no row. Draws depend on ``seed`` and the document's id alone, not on how
    documents share batches.

    Args:
        add_special_tokens: as in ``Tokenizer.encode``.
        path: write the trace here. Finished batches are kept beside it, and the same run continues after them.
        should_stop: looked at before every step.

    The other arguments are those of ``capture``, and so are the errors.
    """
    tokenizer.check_fits(model.config)
    keep_freed_memory()
    prompts = plan(documents, tokenizer, UNCUT, add_special_tokens)
    _check(prompts, options, model.config.max_position_embeddings)
    meta = run_meta(model, tokenizer, documents, (model_name, corpus_name), (*map(type, instruments), GrowingRecorder))
    meta = with_edits(meta, instruments)
    settings = json.loads(json.dumps(asdict(options) | {"seed": seed}))
    meta = meta.model_copy(update={"corpus": meta.corpus | {"generation": settings}})
    run = _Run(model, tokenizer, documents, prompts, options, seed, meta, attention, router_logits, instruments)
    todo = list(batches(longer(prompts.windows, options.max_new_tokens), positions_in_a_batch))
    named = run_name(prompts.documents, prompts.tokens, meta, attention, router_logits)
    parts = Parts(None if path is None else Path(path), f"{named} {positions_in_a_batch}")
    run.all(todo, parts, on_progress, should_stop or (lambda: False))
    trace = parts.joined(meta, attention, router_logits)
    parts.remove()
    save_beside(trace)
    return trace


@dataclass(frozen=True)
class _Run:
    model: MixtralForCausalLM
    tokenizer: Tokenizer
    documents: Sequence[Document]
    prompts: Plan
    options: GenerationOptions
    seed: int
    meta: TraceMeta
    attention: AttentionPlan | None
    router_logits: bool
    instruments: Sequence[Instrument]

    def all(
        self, todo: Sequence[Sequence[Window]], parts: Parts, on_progress: OnProgress | None, should_stop: ShouldStop
    ) -> None:
        """Run every batch that is not among the parts yet."""
        pending = [batch for number, batch in enumerate(todo) if parts.get(number) is None]
        ready = sum(len(part.trace) for part in parts.ready)
        planned = sum(window.length for batch in pending for window in batch)
        tracker = Tracker(len(self.documents), ready + planned, ready, on_progress)
        for number, batch in enumerate(todo):
            if parts.get(number) is None:
                chosen = sorted(window.document for window in batch)
                trace = self.one(chosen, should_stop)
                parts.put(number, Part(chosen, trace))
                fewer = sum(window.length for window in batch) - len(trace)
                tracker.add(len(trace), sum(len(part.documents) for part in parts.ready), fewer)

    def one(self, chosen: Sequence[int], should_stop: ShouldStop) -> Trace:
        """The trace of some documents that are continued together."""

        def before_step() -> None:
            if should_stop():
                raise CaptureStoppedError

        before_step()
        own = [self.prompts.tokens["document"] == number for number in chosen]
        ids = [self.prompts.token_ids[rows].tolist() for rows in own]
        generators = [_generator(self.model, f"{self.seed} {self.documents[number].id}") for number in chosen]
        windows = [Window(number, 0, 0, len(tokens)) for number, tokens in zip(chosen, ids, strict=True)]
        batch = continued(
            self.model, self.tokenizer, ids, self.options, generators if self.options.do_sample else None,
            self.attention, self.router_logits, attached(self.instruments, self.prompts.documents, windows),
            before_step,
        )  # fmt: skip
        documents = _document_frame(self.prompts, chosen, batch.continuations, self.tokenizer)
        tokens = _token_frame(self.prompts.tokens, own, batch.continuations, self.tokenizer)
        builder = TraceBuilder(documents, tokens, self.meta, attention=self.attention, record_logits=self.router_logits)
        start = 0
        for number, continuation in enumerate(batch.continuations):
            batch.fill(builder, number, start)
            start += len(continuation.fed)
        builder.mark_done(range(len(chosen)))
        return builder.finish()


def _generator(model: MixtralForCausalLM, text: str) -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return torch.Generator(model.lm_head.weight.device).manual_seed(seed)


def _document_frame(
    prompts: Plan, chosen: Sequence[int], continuations: Sequence[Continuation], tokenizer: Tokenizer
) -> pd.DataFrame:
    texts = [new_text(tokenizer, c.prompt, c.new) for c in continuations]
    return prompts.documents.iloc[list(chosen)].assign(document=range(len(chosen)), **{LABEL: texts})


def _token_frame(
    prompts: pd.DataFrame, own: Sequence[pd.Series], continuations: Sequence[Continuation], tokenizer: Tokenizer
) -> pd.DataFrame:
    """The prompts' rows, each prompt's followed by those of its new tokens, which have no place in its text."""
    frames: list[pd.DataFrame] = []
    for number, (rows, continuation) in enumerate(zip(own, continuations, strict=True)):
        known, new = prompts[rows].assign(document=number), np.array(continuation.new[:-1], dtype=np.int32)
        frames.append(known.astype({"piece": object, "start": "Int32", "end": "Int32"}))
        decoded = {"document": number, "chunk": 0, "position": np.arange(len(known), len(known) + len(new))}
        decoded |= {"token_id": new, "piece": tokenizer.pieces(new), "phase": "decode"}
        decoded |= {"start": pd.array([None] * len(new), "Int32"), "end": pd.array([None] * len(new), "Int32")}
        decoded |= {"special": np.isin(new, list(tokenizer.special_ids))}
        if len(new):
            frames.append(pd.DataFrame(decoded))
    return pd.concat(frames, ignore_index=True)


def _check(prompts: Plan, options: GenerationOptions, limit: int) -> None:
    if LABEL in prompts.documents:
        raise InputError(f"the label {LABEL!r} is to hold the new text, but the documents have one; rename theirs")
    longest = max(window.length for window in longer(prompts.windows, options.max_new_tokens))
    if longest > limit:
        warnings.warn(
            f"prompt and new tokens, {longest} of them, go beyond the model's {limit} positions; "
            "what it does there it never learned", stacklevel=4,
        )  # fmt: skip
