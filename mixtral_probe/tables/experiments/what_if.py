"""What edits do to loss, predictions and routing, compared with a placebo: `what_if`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Blocks
from mixtral_probe.tables.experiments.what_if_runs import rerouted
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.phrases import PLACEBO, POSITIVE, SHARE
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, WhatIf

Floats = NDArray[np.float64]


def what_if(result: Result) -> pd.DataFrame:
    """Return what edits do to loss, predictions and routing, and what a placebo of the same size does.

    Columns: run, layer, expert, document, metric, value, corrected, low, high, null, n, scope.

    Raises:
        InputError: the result is of another kind.
    """
    result = WhatIf.require(result, "the table what_if")
    return tidy([part for run in range(1, len(result.axis("run"))) for part in _ComparedRun(result, run).parts()], SPEC)


class _ComparedRun:
    """One run compared with the run without edits."""

    def __init__(self, result: WhatIf, run: int) -> None:
        self.result, self.run = result, run
        self.counted = ~np.asarray(result.special, bool)
        blocks = Blocks.of(result.axis("document"))
        self.block = blocks.of_document[result.token_document]
        self.blocks, self.folded = blocks.number, blocks.folded
        self.name, self.sentences = result.axis("run")[run], result.sentences if run == 1 else result.placebo_sentences
        self.about = f"{self.name}: {' + '.join(sentence.replace('; ', ', ') for sentence in self.sentences)}"

    def parts(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of every metric."""
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
        return rerouted(self.result, run)[list(layers)].mean(0)

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
            inside = scored & (self.result.token_document == document)
            null = self._placebo(self._change, inside)
            yield self._mean(
                {"document": document}, "loss_change", self._change(self.run), inside, null, "one document"
            )

    def _placebo(self, values: Callable[[int], Floats], counted: NDArray[np.bool_] | None = None) -> float:
        """Return the mean of the placebo, the null of the edits; NaN for the placebo itself."""
        counted = self.counted if counted is None else counted
        if self.run == 2 or len(self.result.axis("run")) < 3 or not counted.any():
            return np.nan
        return float(values(2)[counted].mean())

    def _mean(
        self, keys: dict[str, Any], metric: str, values: Floats, counted: NDArray[np.bool_], null: float, tokens: str
    ) -> pd.DataFrame:
        """Return the mean of values [T] over the counted tokens, with an interval over documents."""
        sums, sizes = (
            np.bincount(self.block[counted], weights, minlength=self.blocks)[None]
            for weights in (values[counted], np.ones(int(counted.sum())))
        )  # [1, Bk]
        sizes, bounds = sizes.astype(np.int64), SPEC.metrics[metric].bounds
        estimate = leave_one_out(metrics.ratio, (sums, sizes), sizes, folded=self.folded, bounds=bounds)
        scope = f"{tokens}; special tokens out; {self.about}"
        return estimate_rows({"run": self.name, **keys}, metric, estimate, null, [int(sizes.sum())], scope)

    def _shares(self) -> pd.DataFrame:
        """[L, E] shares of assignments with the change, and without as null."""
        before, after = (self._share(run) for run in (0, self.run))
        keys = {"run": self.name, "layer": np.arange(len(after))[:, None], "expert": np.arange(after.shape[1])}
        scope = f"one layer; special tokens out; counted, no interval; {self.about}"
        return rows(keys, "share", after, null=before, n=int(self.counted.sum()), scope=scope)

    def _share(self, run: int) -> Floats:
        ids, experts = self.result.expert_ids[run][:, self.counted], self.result.num_experts
        counts = np.array([np.bincount(layer[layer >= 0], minlength=experts) for layer in ids.reshape(len(ids), -1)])
        return metrics.ratio(counts, counts.sum(1, keepdims=True))


SPEC = TableSpec(
    function=what_if,
    source="result",
    description="What edits do to loss, predictions and routing, compared with a placebo of the same size.",
    keys=("run", "layer", "expert", "document"),
    metrics={
        "loss": Metric(
            "mean next-token loss with the change, nats; null: without", "loss, nats", ".3f", POSITIVE, "without edits"
        ),
        "loss_change": Metric(
            "mean loss with the change - without, paired by document, nats; null: what the placebo does",
            "change of the loss, nats",
            "+.3f",
            null=PLACEBO,
        ),
        "divergence_bits": Metric(
            "KL(without || with) of the next-token distribution, mean over tokens; null: of the placebo",
            "KL from the unchanged, bits",
            ".3f",
            POSITIVE,
            PLACEBO,
        ),
        "prediction_changed": Metric(
            "share of tokens after which another token is the best guess; null: of the placebo",
            "best guess changed",
            ".1%",
            SHARE,
            PLACEBO,
        ),
        "rerouted": Metric(
            "share of tokens with another set of experts, over layers where `layer` is empty; null: of the placebo",
            "share of tokens rerouted",
            ".1%",
            SHARE,
            PLACEBO,
        ),
        "share": replace(
            expert_load.SPEC.metrics["share"],
            meaning="share of assignments to the expert with the change; null: without",
        ),
    },
    figures=(Drawing("what_if"),),
    narrows=False,
    meanings={
        "run": Column(
            "edited = with the edits, placebo = with as many assignments of random tokens (or heads) damaged alike",
            "str",
        ),
        "layer": Column("layer, from 0; empty = all layers", "Int64"),
        "expert": Column("expert, from 0; empty = all experts of the layer", "Int64"),
        "document": Column("document, from 0; empty = all documents", "Int64"),
        "null": Column("what `metric` says; empty where there is no placebo", "float64"),
    },
)
