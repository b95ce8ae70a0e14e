"""Saliency of experts: how much they add, super experts, promoted tokens, contexts."""

from typing import Any

import numpy as np
import torch

from mixtral_probe.experiments.expert_sums import ExpertMeter, ExpertSums
from mixtral_probe.metrics import ratio, super_experts
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch, counted_documents
from mixtral_probe.run.forward import forward
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace import SaliencyResult

AROUND = 12
"""Tokens of a context on each side."""


def saliency(
    subject: Subject, planned: Plan, options: RunOptions, *, promoted: int = 20, contexts: int = 8
) -> SaliencyResult:
    """Run documents, and sum the outputs of each expert over the tokens routed to it; see ``Probe.saliency``."""
    totals = ExpertSums.empty(subject.model, len(planned.documents), contexts)
    counted = counted_documents(planned)

    def meter(batch: Batch) -> None:
        forward(subject.model, batch, [ExpertMeter(totals, batch, counted)])

    Passes.of(planned, options).over(planned, subject.device, meter)
    return _result(subject, planned, totals, promoted)


def _result(subject: Subject, planned: Plan, totals: ExpertSums, promoted: int) -> SaliencyResult:
    forming = totals.massive[1:] & ~totals.massive[:-1]
    ids, logits = _promoted(subject, totals, promoted)
    scores, rows = _contexts(totals)
    arrays = totals.sums | {
        "largest": totals.largest, "forming": forming, "super_experts": super_experts(totals.largest, forming),
        "promoted_ids": ids, "promoted_logits": logits, "context_scores": scores, "context_rows": rows,
    }  # fmt: skip
    meta = experiment_meta(subject, planned)
    meta["pieces"] = {str(i): subject.tokenizer.pieces([i])[0] for i in np.unique(ids).tolist() if i >= 0}
    meta["contexts"] = {str(row): _context(planned, row) for row in np.unique(rows).tolist() if row >= 0}
    return SaliencyResult.of(arrays, {"document": tuple(map(str, planned.documents["id"]))}, meta)


@torch.no_grad()
def _promoted(subject: Subject, totals: ExpertSums, most: int) -> tuple[np.ndarray, np.ndarray]:
    """[L, E, most] ids and logits of the tokens an expert raises most; −1 and NaN for one without tokens.

    Its mean addition to the stream, less that of all the layer's experts, read through the final norm's weights and the
    unembedding, less the mean over the vocabulary, since a token that all experts raise alike is not due to one.
    """
    model, vocabulary = subject.model, min(subject.tokenizer.vocab_size, subject.config.vocab_size)
    head, norm = model.lm_head.weight, model.model.norm.weight.to(model.lm_head.weight.device, torch.float32)
    most = min(most, vocabulary)
    counts = totals.sums["counts"].sum(1)
    layer_mean = ratio(totals.added.sum(1), counts.sum(1)[:, None])  # [L, C]
    ids = np.full((*counts.shape, most), -1, np.int64)
    logits = np.full(ids.shape, np.nan)
    for layer, expert in np.argwhere(counts > 0):
        mean = totals.added[layer, expert] / counts[layer, expert] - layer_mean[layer]
        raised = head[:vocabulary].float() @ (norm * torch.from_numpy(mean).to(norm))
        best = (raised - raised.mean()).topk(most)
        ids[layer, expert], logits[layer, expert] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return ids, logits


def _contexts(totals: ExpertSums) -> tuple[np.ndarray, np.ndarray]:
    """[L, E, n] scores and rows of the places where an expert adds most; NaN and −1 beyond those there are."""
    contexts = totals.contexts
    most = max(len(top.rows) for top in contexts.values())
    scores = np.full((*totals.largest.shape, most), np.nan)
    rows = np.full(scores.shape, -1, np.int64)
    for place, top in contexts.items():
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
