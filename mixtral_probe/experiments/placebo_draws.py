"""The draws of a placebo: each is run from the first layer it changes on, and only its sums are kept.

Windows that the placebo leaves alone are as without it. Draws of short texts share a forward pass.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mixtral_probe.experiments.compared_scores import Run, Scores, compared_scores
from mixtral_probe.experiments.layer_rerun import StoredPass
from mixtral_probe.experiments.matched_placebo import Placebo
from mixtral_probe.experiments.run_arrays import RoutingRecorder, RunArrays, candidate_probabilities, document_ends
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.recorder import widened
from mixtral_probe.model import Routing
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import Batch, counted_documents
from mixtral_probe.run.passes import model_batches
from mixtral_probe.stats.run_sums import RunSums, RunTokens

HELD_BYTES = 64e6
"""Hidden states and last logits of draws that are scored together, so that the head runs once without edits."""


class PlaceboDraws:
    """What the draws of a placebo do: sums by document, the band of each token, and all tokens of the first draw.

    Args:
        base: the run without edits.
        candidates: [documents, candidates] the next tokens whose probabilities are kept; −1 where there is none.
        placebo: of the edits.
        number: of draws.
    """

    def __init__(
        self, subject: Subject, planned: Plan, options: RunOptions, base: RunArrays, candidates: np.ndarray,
        placebo: Placebo, number: int,
    ) -> None:  # fmt: skip
        self._subject, self._planned, self._options = subject, planned, options
        self._base, self._candidates, self._placebo, self.number = base, candidates, placebo, number
        self._document = counted_documents(planned)
        self.first = base.copy()
        """The tokens of the first draw."""
        unchanged = self._sums(base.tokens(), base.tokens(), self._document, len(planned.documents))
        self.sums = RunSums.repeated(unchanged, number)
        """[draws, …]"""
        self.probability = np.repeat(base.probability[None], number, 0)
        """[draws, documents, candidates]"""
        self.band = TokenBand(len(planned.token_ids))
        """Of the change of each token's loss."""

    @property
    def windows(self) -> tuple[Window, ...]:
        """Those that the placebo changes."""
        return tuple(window for window in self._planned.windows if len(self._placebo.layers(window)))

    def run(self, passes: Passes) -> None:
        """Run all draws, batch by batch."""
        for batch in model_batches(self._planned, self._subject.device, self._options, self.windows):
            self._batch(batch, passes)
            passes.complete(len(batch.completes))

    def _batch(self, batch: Batch, passes: Passes) -> None:
        first = min(int(self._placebo.layers(window)[0]) for window in batch.windows)
        with passes.step(len(batch.rows)):
            stored = StoredPass.of(self._subject.model, batch, [first])
        at_once = max(1, self._options.positions_in_a_batch // batch.size)
        for draws in _parts(range(self.number), max(at_once, self._held(batch))):
            drawn = []
            for some in _parts(draws, at_once):
                with passes.step(len(some) * len(batch.rows)):
                    drawn += self._drawn(stored, first, some)
            with passes.step():
                base, *scores = compared_scores(
                    self._subject.model, batch, Run(stored.final, stored.context), [run for run, _ in drawn]
                )
            for draw, (_, routing), score in zip(draws, drawn, scores, strict=True):
                self._add(draw, batch, base, score, routing, first)

    def _held(self, batch: Batch) -> int:
        """How many draws' hidden states may be kept."""
        config, size = self._subject.config, self._subject.model.lm_head.weight.element_size()
        each = batch.size * config.hidden_size * size + len(batch.windows) * config.vocab_size * 4
        return max(1, int(HELD_BYTES / each))

    def _drawn(self, stored: StoredPass, first: int, draws: Sequence[int]) -> list[tuple[Run, list[Routing]]]:
        """Run some draws in one call; returns the hidden states and the routing of each."""
        recorder, copies = RoutingRecorder(), len(draws)
        instruments = self._placebo.instruments(stored.batch, draws)
        hidden, _ = stored.rerun(first, [*instruments, recorder], copies)
        routing = zip(*(_split(layer, copies) for layer in recorder.routing), strict=True)
        runs = (Run(part, stored.context) for part in hidden.chunk(copies))
        return list(zip(runs, map(list, routing), strict=True))

    def _add(
        self, draw: int, batch: Batch, base: Scores, score: Scores, routing: Sequence[Routing], first: int
    ) -> None:  # fmt: skip
        rows, unchanged = batch.rows, self._base.expert_ids[:, batch.rows]
        ids = unchanged.copy()
        for layer, seen in enumerate(routing, start=first):
            ids[layer] = widened(seen, ids.shape[-1]).expert_ids[batch.flat].cpu().numpy()
        before = RunTokens(base.nll, base.bits, base.predicted, unchanged)
        self._add_sums(draw, rows, before, RunTokens(score.nll, score.bits, score.predicted, ids))
        self.band.add(rows, score.nll - base.nll)
        for row, document in document_ends(self._planned, batch):
            self.probability[draw, document] = candidate_probabilities(score.last[row], self._candidates[document])
            if draw == 0:
                self.first.keep_candidates(document, score.last[row], self._candidates[document])
        if draw == 0:
            self.first.keep_routing(batch, routing, first)
            self.first.keep_scores(batch, score)

    def _add_sums(self, draw: int, rows: np.ndarray, before: RunTokens, after: RunTokens) -> None:
        """Put the sums of some tokens in place of those without edits."""
        documents, place = np.unique(self._document[rows], return_inverse=True)
        counted = documents[documents < len(self._planned.documents)]  # the number after the last is "not counted"
        more, less = (self._sums(before, run, place, len(counted)) for run in (after, before))
        self.sums.add(draw, counted, more, less)

    def _sums(self, base: RunTokens, run: RunTokens, documents: np.ndarray, number: int) -> RunSums:
        return RunSums.of(base, run, documents, number, self._subject.config.num_local_experts)


class TokenBand:
    """Mean, least and greatest change of each token's loss over the draws.

    Args:
        tokens: T.
    """

    def __init__(self, tokens: int) -> None:
        self._draws, self._total = np.zeros(tokens, np.int64), np.zeros(tokens)
        self._low, self._high = np.full(tokens, np.inf), np.full(tokens, -np.inf)

    def add(self, rows: np.ndarray, change: np.ndarray) -> None:
        """Add one draw of some tokens."""
        self._draws[rows] += 1
        self._total[rows] += change
        self._low[rows], self._high[rows] = np.minimum(self._low[rows], change), np.maximum(self._high[rows], change)

    def arrays(self) -> dict[str, np.ndarray]:
        """[T] each: mean, low and high; 0 where no draw changes the window of a token."""
        drawn = self._draws > 0
        mean = self._total / np.maximum(self._draws, 1)
        ends = {"low": np.where(drawn, self._low, 0), "high": np.where(drawn, self._high, 0)}
        return {name: values.astype(np.float32) for name, values in {"mean": mean, **ends}.items()}


def _split(routing: Routing, copies: int) -> list[Routing]:
    """The choice of each copy of a batch, without the logits."""
    parts = zip(routing.expert_ids.chunk(copies), routing.weights.chunk(copies), strict=True)
    return [Routing(expert_ids, weights, routing.logits[:0]) for expert_ids, weights in parts]


def _parts(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Values, at most ``size`` of them at a time."""
    return (values[start : start + size] for start in range(0, len(values), size))
