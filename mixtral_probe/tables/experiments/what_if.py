"""What edits do to loss, predictions and routing, compared with a placebo: `what_if`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Blocks
from mixtral_probe.stats.run_sums import RunSums
from mixtral_probe.tables.experiments.placebo_band import BAND, band, band_words, mean_of, with_band
from mixtral_probe.tables.experiments.what_if_runs import WhatIfSums, kept_tokens
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.phrases import PLACEBO, POSITIVE, SHARE
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, WhatIf

Floats = NDArray[np.float64]
_OUT = "special tokens out"


@of_result
def what_if(result: Result) -> pd.DataFrame:
    """Return what edits do to loss, predictions and routing, and what draws of a placebo of the same size do.

    Columns: run, layer, expert, document, metric, value, corrected, low, high, null, placebo_low, placebo_high,
    placebo_draws, placebo_rank, p, n, scope.

    Raises:
        InputError: the result is of another kind.
    """
    result = WhatIf.require(result, "the table what_if")
    comparison = _Comparison(result)
    return tidy([*comparison.means(), *comparison.shares()], SPEC)


class _Comparison:
    """The run with the edits and the draws of the placebo, compared with the run without edits."""

    def __init__(self, result: WhatIf) -> None:
        self.sums = WhatIfSums.of(result)
        self.blocks, self.documents = Blocks.of(result.axis("document")), len(result.axis("document"))
        self.draws, self.arrangements = result.draws, result.arrangements
        self.layers = len(result.expert_ids[0])
        self.kept, self.continued = kept_tokens(result)
        self.about = {"edited": result.sentences, "placebo": result.placebo_sentences}

    def means(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of every metric that is a mean over tokens."""
        scored, tokens, base = self.sums.scored, self.sums.tokens, self.sums.base.nll
        after, every = f"tokens with something before; {_OUT}", f"tokens; {_OUT}"
        without = float(metrics.ratio(base.sum(), scored.sum()))
        yield from self._mean({}, "loss", self._both(lambda run: run.nll), scored, after, without)
        yield from self._mean({}, "loss_change", self._both(lambda run: run.nll - base), scored, after)
        for document in range(self.documents):
            inside = np.arange(self.documents) == document
            change = self._both(partial(_change, base, inside))
            yield from self._mean(
                {"document": document}, "loss_change", change, scored * inside, f"one document; {_OUT}"
            )
        yield from self._mean({}, "divergence_bits", self._both(lambda run: run.bits), tokens, every)
        yield from self._mean({}, "prediction_changed", self._both(lambda run: run.changed), tokens, every)
        moved = self._both(lambda run: run.rerouted.mean(-2))
        yield from self._mean({}, "rerouted", moved, tokens, f"tokens, all layers; {_OUT}")
        for layer in range(self.layers):
            moved = self._both(partial(_of_layer, layer))
            yield from self._mean({"layer": layer}, "rerouted", moved, tokens, every)
        if self.kept is not None:
            yield from self._mean({}, "continuation_kept", self.kept, self.continued, "tokens of the continuation")

    def _both(self, of_run: Callable[[RunSums], Floats]) -> tuple[Floats, Floats]:
        """[documents] a sum of the run with the edits, and [draws, documents] of the draws."""
        return of_run(self.sums.edited), of_run(self.sums.draws)

    def _mean(
        self, keys: dict[str, Any], metric: str, sums: tuple[Floats, Floats], sizes: NDArray[np.int64],
        tokens: str, without: float | None = None,
    ) -> Iterator[pd.DataFrame]:  # fmt: skip
        """Yield the row of the edits and, where it was run, that of the placebo, with intervals over documents.

        Args:
            sums: [documents] of the edits, and [draws, documents] of the draws.
            sizes: [documents] the tokens they are divided by.
            without: the value without edits, which is then the null.
        """
        edited, draws = sums
        by_draw = metrics.ratio(draws.sum(-1), sizes.sum())
        value = metrics.ratio(edited.sum(), sizes.sum())
        null = mean_of(by_draw) if without is None else without
        place = band(by_draw) | self._place(value, by_draw)
        yield self._row("edited", keys, metric, edited, sizes, null, tokens).assign(**place)
        if self.draws:
            null = np.nan if without is None else without
            yield self._row("placebo", keys, metric, draws.mean(0), sizes, null, tokens).assign(**band(by_draw))

    def _place(self, value: Floats, draws: Floats) -> dict[str, Any]:
        """The rank of a value among draws [D], and its p-value."""
        if self.draws < 2 or np.isnan(value):
            return {}
        few = self.arrangements < metrics.MIN_ARRANGEMENTS
        p = np.nan if few else metrics.draw_p_value(value, draws)
        return {"placebo_rank": metrics.draw_rank(value, draws), "p": p}

    def _row(
        self, run: str, keys: dict[str, Any], metric: str, sums: Floats, sizes: NDArray[np.int64], null: Any,
        tokens: str,
    ) -> pd.DataFrame:  # fmt: skip
        above, below = (
            np.bincount(self.blocks.of_document, values, self.blocks.number)[None] for values in (sums, sizes)
        )  # [1, Bk]
        below, bounds = below.astype(np.int64), SPEC.metrics[metric].bounds
        estimate = leave_one_out(metrics.ratio, (above, below), below, folded=self.blocks.folded, bounds=bounds)
        scope = f"{tokens}; {self._words(run)}"
        return estimate_rows({"run": run, **keys}, metric, estimate, null, [int(sizes.sum())], scope)

    def shares(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of [L, E] shares of assignments of each run, and without edits as null."""
        before, after, draws = (_share(run.used) for run in (self.sums.base, self.sums.edited, self.sums.draws))
        keys = {"layer": np.arange(len(after))[:, None], "expert": np.arange(after.shape[1])}
        n, columns = int(self.sums.tokens.sum()), band(draws)
        runs = {"edited": after} | ({"placebo": draws.mean(0)} if self.draws else {})
        for run, value in runs.items():
            scope = f"one layer; special tokens out; counted, no interval; {self._words(run)}"
            yield rows({"run": run, **keys}, "share", value, null=before, n=n, scope=scope).assign(
                **{name: np.ravel(ends) if np.ndim(ends) else ends for name, ends in columns.items()}
            )

    def _words(self, run: str) -> str:
        """What a scope says about the band and the run."""
        mean = "" if run == "edited" or self.draws < 2 else f"mean of {self.draws} draws; "
        few = self.draws > 1 and run == "edited" and self.arrangements < metrics.MIN_ARRANGEMENTS
        no_p = f"; the placebo can turn out in {self.arrangements} ways: no p-value" if few else ""
        sentences = " + ".join(sentence.replace("; ", ", ") for sentence in self.about[run])
        return f"{mean}{band_words(self.draws)}{no_p}; {run}: {sentences}"


def _change(base: Floats, counted: Any, run: RunSums) -> Floats:
    """[..., documents] what the loss of documents gains, 0 where they are not counted."""
    return (run.nll - base) * counted


def _of_layer(layer: int, run: RunSums) -> Floats:
    return run.rerouted[..., layer, :]


def _share(used: NDArray[np.int64]) -> Floats:
    """[..., L, E] shares of assignments."""
    return metrics.ratio(used, used.sum(-1, keepdims=True))


SPEC = TableSpec(
    function=what_if,
    source="result",
    description="What edits do to loss, predictions and routing, compared with draws of a placebo of the same size.",
    keys=("run", "layer", "expert", "document"),
    metrics={
        "loss": Metric(
            "mean next-token loss with the change, nats; null: without", "loss, nats", ".3f", POSITIVE, "without edits"
        ),
        "loss_change": Metric(
            "mean loss with the change - without, paired by document, nats; null: mean of the placebo's draws",
            "change of the loss, nats",
            "+.3f",
            null=PLACEBO,
        ),
        "divergence_bits": Metric(
            "KL(without || with) of the next-token distribution, mean over tokens; null: mean of the placebo's draws",
            "KL from the unchanged, bits",
            ".3f",
            POSITIVE,
            PLACEBO,
        ),
        "prediction_changed": Metric(
            "share of tokens after which another token is the best guess; null: mean of the placebo's draws",
            "best guess changed",
            ".1%",
            SHARE,
            PLACEBO,
        ),
        "rerouted": Metric(
            "share of tokens with another set of experts, over layers where `layer` is empty; null: mean of the draws",
            "share of tokens rerouted",
            ".1%",
            SHARE,
            PLACEBO,
        ),
        "continuation_kept": Metric(
            "tokens of the text generated without the edits before the first that differs with them / all of them; "
            "null: mean of the placebo's draws",
            "continuation kept",
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
    values=with_band("placebo_rank", "p"),
    meanings={
        **BAND,
        "placebo_rank": Column("place of the value with the edits among itself and the draws, 1 = largest", "Int64"),
        "p": Column(
            "two-sided p-value of the edits among the draws, of this row alone, at least 2 / (draws + 1); empty when "
            "`scope` says why, and for shares",
            "float64",
        ),
        "run": Column(
            "edited = with the edits, placebo = with as many assignments of random tokens (or heads) damaged alike, "
            "mean of the draws",
            "str",
        ),
        "layer": Column("layer, from 0; empty = all layers", "Int64"),
        "expert": Column("expert, from 0; empty = all experts of the layer", "Int64"),
        "document": Column("document, from 0; empty = all documents", "Int64"),
        "null": Column("what `metric` says; empty where there is no placebo", "float64"),
    },
)
