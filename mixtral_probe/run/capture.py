"""The resident engine: a model in memory, documents in batches, a trace."""

import warnings
from collections import Counter
from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch

from mixtral_probe.corpus import Document
from mixtral_probe.instruments import Copier, Recorder, Window, copier_for
from mixtral_probe.model import Instrument, MixtralForCausalLM
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.attached import attached, with_edits
from mixtral_probe.run.batch import BARE, Batch
from mixtral_probe.run.plan import Plan, batches, plan
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, ShouldStop, Tracker
from mixtral_probe.run.provenance import run_meta
from mixtral_probe.run.scoring import next_token_scores
from mixtral_probe.stats import save_beside
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder

POSITIONS_IN_A_BATCH = 4096


def capture(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    attention: AttentionPlan | None = None,
    router_logits: bool = True,
    path: str | PathLike[str] | None = None,
    window: int | None = None,
    add_special_tokens: bool = True,
    model_name: str = "",
    corpus_name: str = "",
    instruments: Sequence[Instrument] = (),
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
) -> Trace:
    """Run documents through a model and record what its routers did.

    Args:
        attention: layers and heads whose attention is recorded too.
        router_logits: record them; without, only the choice and its weights.
        path: write the trace here as it is made; an interrupted run of the same documents is continued.
        window: cut longer documents into pieces of this many tokens; by default the model's maximum, with a warning.
        add_special_tokens: as in ``Tokenizer.encode``.
        model_name, corpus_name: what the trace calls them.
        instruments: edits, visited before the recorder.
        should_stop: looked at between batches.
        positions_in_a_batch: padded positions run at once.

    Raises:
        InputError: the input breaks a rule.
        CaptureStoppedError: ``should_stop`` said so.
    """
    tokenizer.check_fits(model.config)
    keep_freed_memory()
    limit = model.config.max_position_embeddings
    planned = plan(documents, tokenizer, limit if window is None else window, add_special_tokens)
    _warn_of_length(planned, limit, cut=window is None)
    meta = run_meta(model, tokenizer, documents, (model_name, corpus_name), (*map(type, instruments), Recorder))
    meta = with_edits(meta, instruments)
    builder = TraceBuilder(
        planned.documents, planned.tokens, meta, path, attention=attention, record_logits=router_logits
    )
    _fill(builder, model, planned, instruments, positions_in_a_batch, on_progress, should_stop)
    trace = builder.finish()
    save_beside(trace)
    return trace


def _fill(
    builder: TraceBuilder, model: MixtralForCausalLM, planned: Plan, instruments: Sequence[Instrument], positions: int,
    on_progress: OnProgress | None, should_stop: ShouldStop | None,
) -> None:  # fmt: skip
    pending = set(builder.pending)
    todo = [w for w in planned.windows if w.document in pending]
    done = len(planned.documents) - len(pending)
    total = len(planned.token_ids)
    tracker = Tracker(len(planned.documents), total, total - sum(w.length for w in todo), on_progress)
    left = Counter(w.document for w in todo)
    copier = copier_for(model.lm_head.weight.device)
    for batch in batches(todo, positions):
        if should_stop is not None and should_stop():
            raise CaptureStoppedError
        run_batch(model, builder, planned.token_ids, batch, attached(instruments, planned.documents, batch), copier)
        left.subtract(w.document for w in batch)
        finished = [d for d in dict.fromkeys(w.document for w in batch) if not left[d]]
        builder.mark_done(finished)
        done += len(finished)
        tracker.add(sum(w.length for w in batch), done)


@torch.inference_mode()
def run_batch(
    model: MixtralForCausalLM, builder: TraceBuilder, token_ids: np.ndarray, batch: Sequence[Window],
    instruments: Sequence[Instrument], copier: Copier,
) -> None:  # fmt: skip
    """One forward pass over some windows; what it did is in the builder's rows afterwards."""
    ids = Batch.of(token_ids, batch, model.lm_head.weight.device).ids
    recorder = Recorder(builder, batch, ids.shape[1], copier)
    out = model.model(ids, instruments=(*instruments, recorder), **BARE)
    nll, predicted = next_token_scores(model, out.last_hidden_state, ids, out.call, instruments)
    recorder.finish()
    nll, predicted = nll.cpu(), predicted.cpu()
    for row, w in enumerate(batch):
        rows = slice(w.start, w.start + w.length)
        builder.nll[rows] = nll[row, : w.length].numpy()
        builder.predicted_id[rows] = predicted[row, : w.length].numpy()


def _warn_of_length(planned: Plan, limit: int, cut: bool) -> None:
    """Say what happens to text beyond the positions the model was made for."""
    lengths = planned.tokens.groupby("document").size()
    longest = max(w.length for w in planned.windows)
    if cut and (long := lengths[lengths > limit]).size:
        name, length = planned.documents["id"][long.index[0]], int(long.iloc[0])
        warnings.warn(
            f"document {name!r} has {length} tokens, more than the model's {limit} positions; it and "
            f"{len(long) - 1} others were cut into windows", stacklevel=3,
        )  # fmt: skip
    elif longest > limit:
        warnings.warn(
            f"windows of {longest} tokens go beyond the model's {limit} positions; "
            "what it does there it never learned", stacklevel=3,
        )  # fmt: skip
