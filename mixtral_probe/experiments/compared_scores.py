"""The loss, the best next token and the divergence of runs of one batch, compared with the run without edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.model import ForwardContext, Instrument, MixtralForCausalLM
from mixtral_probe.run.batch import Batch

ROWS_AT_ONCE = 512
"""Rows of logits of each run in memory."""


class Run(NamedTuple):
    """The hidden states of one run of a batch, before the head."""

    hidden: Tensor
    """[B, S, C]"""
    context: ForwardContext
    instruments: Sequence[Instrument] = ()


@dataclass(frozen=True)
class Scores:
    """What one run predicts, in the tokens of a batch."""

    nll: np.ndarray
    """[n] nats; NaN at the start of a window."""
    bits: np.ndarray
    """[n] KL divergence of what is expected next from that of the run without edits."""
    predicted: np.ndarray
    """[n] the most probable next token."""
    last: Tensor
    """[B, V] float32, the logits after each window's last token."""


def compared_scores(model: MixtralForCausalLM, batch: Batch, base: Run, others: Sequence[Run]) -> list[Scores]:
    """Score runs of a batch against the first; returns those of ``base``, then those of the others."""
    runs = [base, *others]
    scores = [_Unfinished(batch, model.config.vocab_size) for _ in runs]
    length = batch.ids.shape[1]
    step = max(1, ROWS_AT_ONCE // len(batch.ids))
    for start in range(0, length, step):
        part = slice(start, min(start + step, length))
        expected: Tensor | None = None
        for run, score in zip(runs, scores, strict=True):
            logits = model.head(run.hidden[:, part], run.context, run.instruments).float()
            log_q = logits.log_softmax(-1)
            expected = log_q if expected is None else expected
            score.add(part, logits, log_q, expected)
    return [score.finished() for score in scores]


class _Unfinished:
    """The scores of one run, filled position by position."""

    def __init__(self, batch: Batch, vocab_size: int) -> None:
        self.batch, device = batch, batch.ids.device
        self.nll = torch.full(batch.ids.shape, torch.nan, device=device)
        self.bits = torch.zeros(batch.ids.shape, device=device)
        self.predicted = torch.zeros(batch.ids.shape, dtype=torch.int64, device=device)
        self.last = torch.zeros(len(batch.ids), vocab_size, device=device)

    def add(self, part: slice, logits: Tensor, log_q: Tensor, log_p: Tensor) -> None:
        """Score the positions of a part; log_p: of the run without edits."""
        if log_q is not log_p:
            divergence = (log_p.exp() * (log_p - log_q)).nan_to_num(0).sum(-1).clamp(min=0)
            self.bits[:, part] = divergence / np.log(2)
        self.predicted[:, part] = logits.argmax(-1)
        targets = self.batch.ids[:, part.start + 1 : part.stop + 1]
        chosen = log_q[:, : targets.shape[1]].gather(2, targets[..., None])[..., 0]
        self.nll[:, part.start + 1 : part.start + 1 + targets.shape[1]] = -chosen
        for row, window in enumerate(self.batch.windows):
            if part.start < window.length <= part.stop:
                self.last[row] = logits[row, window.length - 1 - part.start]

    def finished(self) -> Scores:
        """The scores in the tokens of the batch."""
        nll, bits, predicted = (
            values.reshape(-1).cpu()[self.batch.flat].numpy() for values in (self.nll, self.bits, self.predicted)
        )
        return Scores(nll, bits, predicted, self.last.cpu())
