"""The measurements of one run of a what-if, token by token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.experiments.compared_scores import Scores
from mixtral_probe.instruments.recorder import widened
from mixtral_probe.model import ForwardContext, Instrument, Routing, Site
from mixtral_probe.run import Plan
from mixtral_probe.run.batch import Batch
from mixtral_probe.stats.run_sums import RunTokens
from mixtral_probe.trace.results import CANDIDATES


@dataclass
class RunArrays:
    """One run, in the rows of the plan; arrays are filled batch by batch."""

    expert_ids: np.ndarray
    """[L, T, K] int16"""
    expert_weights: np.ndarray
    """[L, T, K] float32"""
    nll: np.ndarray
    """[T] float32"""
    bits: np.ndarray
    """[T] float32"""
    predicted_id: np.ndarray
    """[T] int32"""
    probability: np.ndarray
    """[documents, candidates] float32"""
    rank: np.ndarray
    """[documents, candidates] int32"""

    @classmethod
    def empty(cls, layers: int, tokens: int, top_k: int, documents: int) -> Self:
        """A run of which nothing is known."""
        routing, candidates = (layers, tokens, top_k), (documents, CANDIDATES)
        return cls(
            np.full(routing, -1, np.int16), np.zeros(routing, np.float32),
            np.full(tokens, np.nan, np.float32), np.full(tokens, np.nan, np.float32), np.full(tokens, -1, np.int32),
            np.full(candidates, np.nan, np.float32), np.full(candidates, -1, np.int32),
        )  # fmt: skip

    def copy(self) -> "RunArrays":
        """The same in arrays of its own."""
        return RunArrays(*(getattr(self, part.name).copy() for part in fields(self)))

    def keep_routing(self, batch: Batch, seen: Sequence[Routing], first: int = 0) -> None:
        """Keep the routing of a batch, from one of the layers on."""
        for layer, routing in enumerate(seen, start=first):
            whole = widened(routing, self.expert_ids.shape[-1])
            self.expert_ids[layer, batch.rows] = whole.expert_ids[batch.flat].cpu().numpy()
            self.expert_weights[layer, batch.rows] = whole.weights[batch.flat].float().cpu().numpy()

    def keep_scores(self, batch: Batch, scores: Scores) -> None:
        """Keep the scores of a batch."""
        self.nll[batch.rows], self.bits[batch.rows] = scores.nll, scores.bits
        self.predicted_id[batch.rows] = scores.predicted

    def keep_candidates(self, document: int, last: Tensor, ids: np.ndarray) -> None:
        """Keep probabilities and ranks of the candidates after a document, of the logits [V] there."""
        self.probability[document] = candidate_probabilities(last, ids)
        chosen = torch.from_numpy(ids[ids >= 0].astype(np.int64))
        self.rank[document, : len(chosen)] = (last[None] > last[chosen, None]).sum(1).numpy()

    def tokens(self, rows: Any = slice(None)) -> RunTokens:
        """The measurements at some rows."""
        return RunTokens(self.nll[rows], self.bits[rows], self.predicted_id[rows], self.expert_ids[:, rows])


class RoutingRecorder(Instrument):
    """Keeps the routing of every layer of a call."""

    sites = (Site.ROUTING,)

    def __init__(self) -> None:
        self.routing: list[Routing] = []

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Keep the value, and return it unchanged."""
        self.routing.append(value)
        return value


def candidate_probabilities(last: Tensor, ids: np.ndarray) -> np.ndarray:
    """[candidates] float32, of logits [V]; NaN where an id is −1."""
    probability = last.softmax(-1).numpy()
    return np.where(ids < 0, np.float32(np.nan), probability[ids])


def document_ends(planned: Plan, batch: Batch) -> Iterator[tuple[int, int]]:
    """The rows of a batch in which a document ends, and that document."""
    owner = planned.tokens["document"].to_numpy()
    for row, window in enumerate(batch.windows):
        after = window.start + window.length
        if after == len(owner) or owner[after] != window.document:
            yield row, window.document
