"""The resident capture: a model in memory, documents in batches, a trace."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike

import numpy as np
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.instruments import Recorder, copier_for
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.run.batch import NO_EXTRA_OUTPUTS, Batch
from mixtral_probe.run.disk import added_bytes
from mixtral_probe.run.edit_binding import bind_edits, with_edits
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.passes import Passes
from mixtral_probe.run.plan import Plan
from mixtral_probe.run.provenance import run_meta
from mixtral_probe.run.scoring import next_token_scores
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.cached_stats import add_stats
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder
from mixtral_probe.trace.finite import Nonfinite, require_nonfinite


def capture(
    subject: Subject,
    planned: Plan,
    options: RunOptions,
    *,
    attention: AttentionPlan | None = None,
    router_logits: bool = True,
    path: str | PathLike[str] | None = None,
    instruments: Sequence[Instrument] = (),
    nonfinite: Nonfinite = "refuse",
) -> Trace:
    """Run documents through a model and record what its routers did; arguments and errors as in ``Probe.trace``."""
    require_nonfinite(nonfinite)
    _warn_of_length(planned, subject.config.max_position_embeddings)
    meta = with_edits(run_meta(subject, planned.corpus, instruments, [Recorder.__name__]), instruments)
    with TraceBuilder(
        planned.documents,
        planned.tokens,
        meta,
        path,
        attention=attention,
        record_logits=router_logits,
        added_bytes=added_bytes(subject, planned),
    ) as builder:
        record(builder, subject, planned, options, instruments, nonfinite)
        trace = builder.finish(add_stats)
    warn_of_skipped(trace)
    return trace


def record(
    builder: TraceBuilder, subject: Subject, planned: Plan, options: RunOptions,
    instruments: Sequence[Instrument] = (), nonfinite: Nonfinite = "refuse",
) -> None:  # fmt: skip
    """Run the documents that are not complete in a builder, and fill its rows."""
    pending = set(builder.pending)
    windows = [w for w in planned.windows if w.document in pending]
    documents, tokens = len(planned.documents), len(planned.token_ids)
    passes = Passes(
        options, documents=documents, tokens=tokens, documents_done=documents - len(pending),
        tokens_done=tokens - sum(w.length for w in windows),
    )  # fmt: skip
    waiting: list[RecordedBatch] = []

    def forward(batch: Batch) -> None:
        """Queue the work of a batch, then write the one before, so that neither host nor device waits."""
        edits = bind_edits(instruments, planned.documents, batch.windows)
        waiting.append(record_batch(subject.model, builder, batch, edits, nonfinite))
        if len(waiting) > 1:
            waiting.pop(0).finish()

    try:
        passes.over(planned, subject.device, forward, windows)
    except BaseException:
        with suppress(InputError):  # of another batch than the one whose error is raised
            _finish(waiting)  # a run that is stopped keeps every batch that ran
        raise
    _finish(waiting)


def _finish(waiting: Sequence["RecordedBatch"]) -> None:
    for batch in waiting:
        batch.finish()


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """A batch whose forward pass is queued."""

    builder: TraceBuilder
    batch: Batch
    recorder: Recorder

    def finish(self) -> None:
        """Wait for its values, fill the builder's rows of its tokens, and mark the documents that it completes."""
        self.recorder.finish()
        self.builder.mark_done(self.batch.completes)


def record_batch(
    model: MixtralForCausalLM, builder: TraceBuilder, batch: Batch, instruments: Sequence[Instrument],
    nonfinite: Nonfinite = "refuse",
) -> RecordedBatch:  # fmt: skip
    """Queue one forward pass, and the copies of what it computes."""
    copier = copier_for(batch.ids.device)
    recorder = Recorder(
        builder, batch.windows, batch.ids.shape[1], copier, nonfinite=nonfinite, edited=bool(instruments)
    )
    out = model.model(batch.ids, instruments=(*instruments, recorder), **NO_EXTRA_OUTPUTS)
    recorder.launch()
    nll, predicted = next_token_scores(model, out.last_hidden_state, batch.ids, out.context, instruments)
    copier.copy(nll, partial(_write_scores, batch, builder.nll))
    copier.copy(predicted, partial(_write_scores, batch, builder.predicted_id))
    return RecordedBatch(builder, batch, recorder)


def _write_scores(batch: Batch, target: np.ndarray, values: Tensor) -> None:
    """Write values [B, S] of the tokens of a batch into ``target`` [T]."""
    target[batch.rows] = values.reshape(-1)[batch.flat].numpy()


def warn_of_skipped(trace: Trace) -> None:
    """Warn of tokens that have no choice in some layers, since their routing was not finite."""
    if trace.meta.nonfinite is not None:
        first = next(layer for layer, number in enumerate(trace.meta.nonfinite) if number)
        warnings.warn(
            f"{sum(trace.meta.nonfinite):,} of {trace.num_layers * len(trace):,} choices, from layer {first} on, were "
            "not finite; they count nowhere, and trace.meta.nonfinite has their number by layer", stacklevel=4,
        )  # fmt: skip


def _warn_of_length(planned: Plan, limit: int) -> None:
    """Warn of text beyond the positions the model was trained for."""
    lengths = planned.tokens.groupby("document").size()
    longest = max(w.length for w in planned.windows)
    if planned.window is None and (long := lengths[lengths > limit]).size:
        name, length = planned.documents["id"][long.index[0]], int(long.iloc[0])
        warnings.warn(
            f"document {name!r} has {length} tokens, more than the model's {limit} positions; it and "
            f"{len(long) - 1} others were cut into windows", stacklevel=4,
        )  # fmt: skip
    elif longest > limit:
        warnings.warn(
            f"windows of {longest} tokens go beyond the model's {limit} positions, "
            "for which it was not trained", stacklevel=4,
        )  # fmt: skip
