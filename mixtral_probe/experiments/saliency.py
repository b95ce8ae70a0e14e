"""What every expert does to the tokens it is given: saliency, super experts, promoted tokens, contexts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mixtral_probe.corpus import Document
from mixtral_probe.experiments.expert_sums import ExpertMeter, ExpertSums
from mixtral_probe.metrics import ratio, super_experts
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.batch import BARE, Batch, counted_documents
from mixtral_probe.run.capture import POSITIONS_IN_A_BATCH
from mixtral_probe.run.plan import Plan, batches, plan
from mixtral_probe.run.progress import CaptureStoppedError, OnProgress, ShouldStop, Tracker
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result

AROUND = 12
"""Tokens shown before and after that of a context."""


def saliency(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    promoted: int = 20,
    contexts: int = 8,
    window: int | None = None,
    model_name: str = "",
    corpus_name: str = "",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
) -> Result:
    """Run documents and sum up what each expert makes of the tokens routed to it.

    Args:
        promoted: tokens listed per expert that its outputs raise most.
        contexts: places listed per expert where it adds most.

    Returns:
        a `Result` of the kind "saliency": sums per layer, document and expert, the largest outputs, promoted tokens,
        and contexts, for `tables.saliency`, `tables.promoted_tokens` and `tables.expert_contexts`.

    Raises:
        InputError: the input breaks a rule.
        CaptureStoppedError: ``should_stop`` said so.
    """
    planned = plan(documents, tokenizer, model.config.max_position_embeddings if window is None else window)
    totals = ExpertSums.empty(model, len(planned.documents), contexts)
    counted, device = counted_documents(planned), model.lm_head.weight.device
    tracker = Tracker(len(planned.documents), len(planned.token_ids), 0, on_progress)
    done: set[int] = set()
    for windows in batches(planned.windows, positions_in_a_batch):
        if should_stop is not None and should_stop():
            raise CaptureStoppedError
        batch = Batch.of(planned.token_ids, windows, device)
        with torch.inference_mode():
            model.model(batch.ids, instruments=[ExpertMeter(totals, batch, counted)], **BARE)
        done.update(w.document for w in windows)
        tracker.add(sum(w.length for w in windows), len(done))
    meta = experiment_meta(model, tokenizer, documents, (model_name, corpus_name), planned)
    return _result(model, tokenizer, planned, totals, meta, promoted)


def _result(
    model: MixtralForCausalLM, tokenizer: Tokenizer, planned: Plan, totals: ExpertSums, meta: dict[str, Any],
    promoted: int,
) -> Result:  # fmt: skip
    per_document = ("layer", "document", "expert")
    forming = totals.massive[1:] & ~totals.massive[:-1]
    ids, logits = _promoted(model, tokenizer, totals, promoted)
    scores, rows = _contexts(totals)
    arrays = totals.sums | {
        "largest": totals.largest, "forming": forming, "super_experts": super_experts(totals.largest, forming),
        "promoted_ids": ids, "promoted_logits": logits, "context_scores": scores, "context_rows": rows,
    }  # fmt: skip
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(totals.sums, per_document)
    keys |= {"largest": ("layer", "expert"), "forming": ("layer",), "super_experts": ("layer", "expert")}
    keys |= dict.fromkeys(("promoted_ids", "promoted_logits"), ("layer", "expert", "promoted"))
    keys |= dict.fromkeys(("context_scores", "context_rows"), ("layer", "expert", "context"))
    meta["pieces"] = {str(i): tokenizer.pieces([i])[0] for i in np.unique(ids).tolist() if i >= 0}
    meta["contexts"] = {str(row): _context(planned, row) for row in np.unique(rows).tolist() if row >= 0}
    return Result("saliency", arrays, keys, {"document": tuple(planned.documents["id"].astype(str))}, meta)


@torch.no_grad()
def _promoted(
    model: MixtralForCausalLM, tokenizer: Tokenizer, totals: ExpertSums, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """[L, E, most] ids and logits of the tokens an expert raises most; −1 and NaN of one without tokens.

    Its mean addition to the stream, less that of all the layer's experts, read through the final norm's weights and the
    unembedding, and less the mean over the vocabulary: what all experts raise alike says nothing of one.
    """
    head, norm = model.lm_head.weight, model.model.norm.weight.to(model.lm_head.weight.device, torch.float32)
    most = min(most, tokenizer.vocab_size)
    counts = totals.sums["counts"].sum(1)
    usual = ratio(totals.added.sum(1), counts.sum(1)[:, None])  # [L, C]
    ids = np.full((*counts.shape, most), -1, np.int64)
    logits = np.full(ids.shape, np.nan)
    for layer, expert in np.argwhere(counts > 0):
        own = totals.added[layer, expert] / counts[layer, expert] - usual[layer]
        raised = head[: tokenizer.vocab_size].float() @ (norm * torch.from_numpy(own).to(norm))
        best = (raised - raised.mean()).topk(most)
        ids[layer, expert], logits[layer, expert] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return ids, logits


def _contexts(totals: ExpertSums) -> tuple[np.ndarray, np.ndarray]:
    """[L, E, n] scores and rows of the places where an expert adds most; NaN and −1 beyond those there are."""
    held = totals.contexts
    most = max(len(top.rows) for top in held.values())
    scores = np.full((*totals.largest.shape, most), np.nan)
    rows = np.full(scores.shape, -1, np.int64)
    for place, top in held.items():
        scores[place][: len(top.rows)], rows[place][: len(top.rows)] = top.scores, top.rows
    return scores, rows


def _context(planned: Plan, row: int) -> dict[str, Any]:
    """A token with those around it in its window."""
    tokens = planned.tokens
    window = next(w for w in planned.windows if w.start <= row < w.start + w.length)
    first, last = max(window.start, row - AROUND), min(window.start + window.length, row + AROUND + 1)
    pieces = tokens["piece"].astype(object).to_numpy()
    return {
        "document": int(window.document), "chunk": int(window.chunk), "position": row - window.start,
        "before": "".join(pieces[first:row]), "token": pieces[row], "after": "".join(pieces[row + 1 : last]),
    }  # fmt: skip
