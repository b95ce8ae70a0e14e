"""What is lost without an expert: `ablation`."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.by_document import ByDocument, grid
from mixtral_probe.tables.experiments.expert_tests import PlaceboTest, rank_rows
from mixtral_probe.tables.experiments.placebo_band import BAND, NO_PLACEBO, band, band_words, mean_of, with_band
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.leave_one_out import ANY
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.phrases import PLACEBO, SHARE
from mixtral_probe.tables.spec import COLUMNS, Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import AblationResult, Result

Floats = NDArray[np.float64]
RANKS = (1.0, np.inf)
_WORDS = {
    "mask": "the expert cannot be chosen, the next best takes over, weights renormalised",
    "zero": "the expert's output is 0, weights kept",
    "zero_renorm": "the expert's output is 0, the token's other weights renormalised",
    "mean": "the expert's output is its mean over these documents, weights kept",
}


@of_result
def ablation(result: Result, *, by: str | None = "domain") -> pd.DataFrame:
    """Return what is lost without each expert, compared with a placebo; intervals are paired by document.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, placebo_low, placebo_high, placebo_draws,
    p, n, scope.

    Args:
        result: of the kind "ablation".
        by: a label of the documents, with rows for each of its values besides those of "all"; None for none.

    Raises:
        InputError: the result is of another kind, or the documents lack the label.
    """
    result = AblationResult.require(result, "the table ablation")
    documents = ByDocument.of(result, by)
    keys = grid(result, documents.groups, "expert")
    return tidy([*_use(result, documents, keys), *_losses(result, documents, keys)], SPEC)


def _use(result: AblationResult, documents: ByDocument, keys: dict[str, Any]) -> Iterator[pd.DataFrame]:
    uses, n = documents.sums(_by_expert(result.routed)), documents.sums(_for_each_expert(result, result.tokens))
    even = result.experts_per_token / result.num_experts
    scope = _about(result) + "before"
    yield documents.ratio_rows(keys, "selection_frequency", uses, n, null=even, scope=scope, bounds=SHARE)


def _losses(result: AblationResult, documents: ByDocument, keys: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield rows of what is lost without each expert, of what the placebo loses, and of experts among each other."""
    base = _for_each_expert(result, result.nll)
    lost, n, uses = (
        documents.sums(values)
        for values in (
            _by_expert(result.ablated) - base,
            _for_each_expert(result, result.tokens),
            _by_expert(result.routed),
        )
    )
    draws = [documents.sums(_by_expert(draw) - base) for draw in result.placebo_draws]
    placebo = sum(draws[1:], draws[0]) / len(draws) if draws else np.full_like(lost, np.nan)
    totals = np.array([draw.sum(2) for draw in draws]).reshape(-1, *placebo.sum(2).shape)
    by_token, by_use = (metrics.ratio(totals, below.sum(2)) for below in (n, uses))
    test = PlaceboTest.of(result, documents, metrics.ratio(lost.sum(2), n.sum(2)), by_token)
    scope = _about(result) + (_matched(len(draws)) if draws else NO_PLACEBO)
    ratio_rows = partial(documents.ratio_rows, keys, scope=scope, bounds=ANY)

    p = {"p": test.p.ravel()} if len(draws) > 1 else {}
    yield ratio_rows("loss_increase", lost, n, null=mean_of(by_token)).assign(**_flat_band(by_token), **p)
    rows = ratio_rows(
        "loss_increase_per_use", lost, uses, null=mean_of(by_use), empty="the expert was never chosen"
    )  # fmt: skip
    yield rows.assign(**_flat_band(by_use))
    ranks = {"loss_increase_rank": lost}
    if draws:
        yield ratio_rows("placebo_loss_increase", placebo, n, null=0.0).assign(**_flat_band(by_token))
        beyond = _flat_band(by_token - mean_of(by_token))
        yield ratio_rows("loss_increase_beyond_placebo", lost - placebo, n, null=0.0).assign(**beyond, **p)
        ranks["loss_increase_beyond_placebo_rank"] = lost - placebo
    yield from test.rows(keys, n.sum(2).astype(np.int64), scope)
    for metric, sums in ranks.items():
        yield rank_rows(keys, metric, sums, n, folded=documents.folded, scope=scope)


def _flat_band(draws: Floats) -> dict[str, Any]:
    return {name: np.ravel(values) if np.ndim(values) else values for name, values in band(draws).items()}


def _by_expert(sums: Floats) -> Floats:
    """[L, documents, E] of sums [L, E, documents]."""
    return np.moveaxis(sums, 1, -1)


def _for_each_expert(result: AblationResult, sums: Floats) -> Floats:
    """[L, documents, E] of sums [documents]."""
    layers, experts, documents = result.ablated.shape
    return np.broadcast_to(sums[:, None], (layers, documents, experts))


def _about(result: AblationResult) -> str:
    return f"one layer; tokens with a loss, special ones out; {_WORDS[result.semantics]}; "


def _matched(draws: int) -> str:
    mean = f"mean of {draws} draws, " if draws > 1 else ""
    drawn = f"{mean}as many assignments of random tokens, rank by rank and document by document"
    return f"placebo: {drawn}; {band_words(draws)}"


SPEC = TableSpec(
    function=ablation,
    source="result",
    description="What is lost without each expert, compared with a placebo.",
    keys=("layer", "group", "expert"),
    metrics={
        "loss_increase": Metric(
            "mean loss per token without the expert less that with it, nats; null: mean of its placebo's draws",
            "loss added",
            "+.3g",
            null=PLACEBO,
        ),
        "placebo_loss_increase": Metric(
            "the same when as many assignments of random tokens are damaged alike, nats; null: 0",
            "loss added by the placebo",
            "+.3g",
            null="nothing lost",
        ),
        "loss_increase_beyond_placebo": Metric(
            "loss_increase less placebo_loss_increase, nats; null: 0",
            "loss added beyond the placebo",
            "+.3g",
            null="as the placebo",
        ),
        "loss_increase_per_use": Metric(
            "all that is lost / tokens that chose the expert, nats; null: mean of its placebo's draws",
            "loss added per use",
            "+.3g",
            null=PLACEBO,
        ),
        "loss_increase_false_discovery": Metric(
            "Benjamini-Hochberg over p: share of false finds if this and all stronger ones are believed; of m finds "
            "among many it cannot be below 1 / (m draws)",
            "false discovery rate",
            ".2g",
            SHARE,
            "as the placebo",
        ),
        "loss_increase_rank": Metric(
            "rank of loss_increase among the experts and layers swept, 1 = most lost; null: the middle",
            "rank by loss added",
            ".0f",
            RANKS,
            "the middle",
        ),
        "loss_increase_beyond_placebo_rank": Metric(
            "rank of loss_increase_beyond_placebo, alike",
            "rank by loss added beyond the placebo",
            ".0f",
            RANKS,
            "the middle",
        ),
        "selection_frequency": replace(
            expert_load.SPEC.metrics["selection_frequency"],
            meaning="share of tokens that chose the expert, K/E when even",
        ),
    },
    figures=(Drawing("ablation"),),
    narrows=False,
    values=with_band("p"),
    meanings={
        **BAND,
        "p": Column(
            "of loss_increase, and so of what is beyond the placebo: two-sided p-value, from studentised draws pooled "
            "over the experts and layers of the group",
            "float64",
        ),
        "null": COLUMNS["null"]._replace(
            meaning="mean of what the placebo loses, or what `metric` says; empty where no placebo was run"
        ),
    },
)
