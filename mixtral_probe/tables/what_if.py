"""What edits changed, beside a placebo: `what_if`, `what_if_tokens`, `what_if_next_tokens`."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Blocks
from mixtral_probe.tables.frame import estimate, estimate_rows, integers, rows, tidy
from mixtral_probe.trace import Result, WhatIf

Floats = NDArray[np.float64]
KEYS = ("run", "layer", "expert", "document")
WHAT_IF = {
    "loss": "mean next-token loss with the change, nats; null: without",
    "loss_change": "mean loss with the change - without, paired by document, nats; null: what the placebo does",
    "divergence_bits": "KL(without || with) of the next-token distribution, mean over tokens; null: of the placebo",
    "prediction_changed": "share of tokens after which another token is the best guess; null: of the placebo",
    "rerouted": "share of tokens with another set of experts, over layers where `layer` is empty; null: of the placebo",
    "share": "share of assignments to the expert with the change; null: without",
}
_SHARES = ("rerouted", "prediction_changed")
TOKEN_KEYS = ("document", "chunk", "position", "token")
TOKENS = ("nll", "loss_change", "loss_change_placebo", "divergence_bits", "layers_rerouted")
CANDIDATE_KEYS = ("document", "candidate")
NEXT = ("token_id", "token", "probability", "probability_edited", "probability_placebo", "rank", "rank_edited")
COLUMNS = {
    "run": "edited = with the edits, placebo = with as many assignments of random tokens (or heads) damaged alike",
    "layer": "layer, from 0; empty = all layers",
    "expert": "expert, from 0; empty = all experts of the layer",
    "document": "document, from 0; empty = all documents",
    "null": "what `metric` says; empty where there is no placebo",
    "candidate": "number among the best 20 next tokens without or with the edits, best without first",
    "token_id": "id of the token",
    "nll": "loss of the token without the edits, nats",
    "loss_change": "loss of the token with the edits - without, nats",
    "loss_change_placebo": "loss of the token with the placebo - without, nats; empty where there is none",
    "divergence_bits": "KL(without || with) of what is expected after the token",
    "layers_rerouted": "layers in which the token has another set of experts",
    "probability": "of the token after the document's last, without the edits",
    "probability_edited": "with the edits",
    "probability_placebo": "with the placebo; empty where there is none",
    "rank": "rank of the token among all without the edits, 0 = best",
    "rank_edited": "rank with the edits",
}
"""What columns mean here."""


def what_if(result: Result) -> pd.DataFrame:
    """What edits do to loss, predictions and routing, and what a placebo of the same size does.

    Columns: run, layer, expert, document, metric, value, low, high, null, n, scope.

    Raises:
        InputError: the result is of another kind.
    """
    runs = WhatIf.require(result, "the table what_if")
    return tidy([part for run in range(1, len(runs.axis("run"))) for part in _Side(runs, run).parts()], KEYS)


def what_if_tokens(result: Result) -> pd.DataFrame:
    """What edits do to each token.

    Columns: document, chunk, position, token, nll, loss_change, loss_change_placebo, divergence_bits, layers_rerouted.
    """
    result = WhatIf.require(result, "the table what_if_tokens")
    nll, moved = _runs(result.nll), _moved(result, 1)
    frame = pd.DataFrame(
        {
            "document": result.token_document,
            "chunk": result.chunk,
            "position": result.position,
            "token": result.axis("token"),
            "nll": nll[0],
            "loss_change": nll[1] - nll[0],
            "loss_change_placebo": nll[2] - nll[0],
            "divergence_bits": np.asarray(result.bits[1], np.float64),
            "layers_rerouted": moved.sum(0),
        }
    )
    return integers(frame.astype({"token": "str"}))


def what_if_next_tokens(result: Result) -> pd.DataFrame:
    """The most probable tokens after each document, without and with the edits.

    Columns: document, candidate, token_id, token, probability, probability_edited, probability_placebo, rank,
    rank_edited.
    """
    result = WhatIf.require(result, "the table what_if_next_tokens")
    ids, probability, rank = result.candidate_id, _runs(result.probability), result.rank
    documents, candidates = np.nonzero(ids >= 0)
    here = (documents, candidates)
    frame = pd.DataFrame(
        {
            "document": documents,
            "candidate": candidates,
            "token_id": ids[here],
            "token": [result.candidates[d][c] for d, c in zip(*here, strict=True)],
            "probability": probability[0][here],
            "probability_edited": probability[1][here],
            "probability_placebo": probability[2][here],
            "rank": rank[0][here],
            "rank_edited": rank[1][here],
        }
    )
    return integers(frame.astype({"token": "str"}))


def _runs(values: Any) -> Floats:
    """[3, …] of [runs, …]: missing where there is no placebo."""
    held = np.asarray(values, np.float64)
    return held if len(held) == 3 else np.concatenate([held, np.full_like(held[:1], np.nan)])


def _moved(result: WhatIf, run: int) -> NDArray[np.bool_]:
    """[L, T] whether a token has another set of experts."""
    before, after = (np.sort(result.expert_ids[side], axis=-1) for side in (0, run))
    return (before != after).any(-1)


class _Side:
    """One run beside that without edits."""

    def __init__(self, result: WhatIf, run: int) -> None:
        self.result, self.run = result, run
        self.counted = ~np.asarray(result.special, bool)
        blocks = Blocks.of(result.axis("document"))
        self.block = blocks.of_document[result.token_document]
        self.blocks, self.folded = blocks.number, blocks.folded
        self.name, self.sentences = result.axis("run")[run], result.sentences if run == 1 else result.placebo_sentences
        self.about = f"{self.name}: {' + '.join(sentence.replace('; ', ', ') for sentence in self.sentences)}"

    def parts(self) -> Iterator[pd.DataFrame]:
        """The rows of every metric."""
        yield from self._losses()
        for name, values in (("divergence_bits", self._bits), ("prediction_changed", self._predicted)):
            yield self._mean({}, name, values(self.run), self.counted, self._placebo(values), "tokens")
        every = range(len(self.result.expert_ids[0]))
        for layers in (every, *([layer] for layer in every)):
            moved = partial(self._moved, layers)
            keys, scope = ({}, "tokens, all layers") if layers is every else ({"layer": layers[0]}, "tokens")
            yield self._mean(keys, "rerouted", moved(self.run), self.counted, self._placebo(moved), scope)
        yield self._shares()

    def _moved(self, layers: Sequence[int], run: int) -> Floats:
        """[T] in how many of the layers, as a share, a token has another set of experts."""
        return _moved(self.result, run)[list(layers)].mean(0)

    def _bits(self, run: int) -> Floats:
        return np.asarray(self.result.bits[run], np.float64)

    def _predicted(self, run: int) -> Floats:
        return (self.result.predicted_id[run] != self.result.predicted_id[0]).astype(float)

    def _change(self, run: int) -> Floats:
        return np.asarray(self.result.nll[run], np.float64) - np.asarray(self.result.nll[0], np.float64)

    def _losses(self) -> Iterator[pd.DataFrame]:
        scored = self.counted & ~np.isnan(self.result.nll[0])
        nll = np.asarray(self.result.nll, np.float64)
        yield self._mean(
            {}, "loss", nll[self.run], scored, float(nll[0][scored].mean()), "tokens with something before"
        )
        null = self._placebo(self._change, scored)
        yield self._mean({}, "loss_change", self._change(self.run), scored, null, "tokens with something before")
        for document in range(len(self.result.axis("document"))):
            own = scored & (self.result.token_document == document)
            null = self._placebo(self._change, own)
            yield self._mean({"document": document}, "loss_change", self._change(self.run), own, null, "one document")

    def _placebo(self, values: Callable[[int], Floats], counted: NDArray[np.bool_] | None = None) -> float:
        """The mean of the placebo, beside which the edits stand; the placebo itself has nothing beside it."""
        counted = self.counted if counted is None else counted
        if self.run == 2 or len(self.result.axis("run")) < 3 or not counted.any():
            return np.nan
        return float(values(2)[counted].mean())

    def _mean(
        self, keys: dict[str, Any], metric: str, values: Floats, counted: NDArray[np.bool_], null: float, tokens: str
    ) -> pd.DataFrame:
        """The mean of values [T] over the counted tokens, with an interval over documents."""
        sums, sizes = (
            np.bincount(self.block[counted], weights, minlength=self.blocks)
            for weights in (values[counted], np.ones(int(counted.sum())))
        )
        value = metrics.ratio(sums.sum(keepdims=True), sizes.sum())
        deleted = metrics.ratio(sums.sum() - sums, sizes.sum() - sizes)
        bounds = (-np.inf if metric == "loss_change" else 0.0, 1.0 if metric in _SHARES else np.inf)
        found = estimate(value, deleted[None], sizes.astype(np.int64)[None], self.folded, bounds)
        scope = f"{tokens}; special tokens out; {self.about}"
        return estimate_rows({"run": self.name, **keys}, metric, found, null, [int(sizes.sum())], scope)

    def _shares(self) -> pd.DataFrame:
        """[L, E] shares of assignments with the change, and without as null."""
        before, after = (self._share(run) for run in (0, self.run))
        keys = {"run": self.name, "layer": np.arange(len(after))[:, None], "expert": np.arange(after.shape[1])}
        scope = f"one layer; special tokens out; counted, no interval; {self.about}"
        return rows(keys, "share", after, null=before, n=int(self.counted.sum()), scope=scope)

    def _share(self, run: int) -> Floats:
        ids, experts = self.result.expert_ids[run][:, self.counted], self.result.num_experts
        counts = np.array([np.bincount(own[own >= 0], minlength=experts) for own in ids.reshape(len(ids), -1)])
        return metrics.ratio(counts, counts.sum(1, keepdims=True))
