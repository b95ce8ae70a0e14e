"""What is lost without an expert: `ablation`."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.by_document import ByDocument, grid
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.leave_one_out import ANY
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.phrases import PLACEBO, SHARE
from mixtral_probe.tables.spec import COLUMNS, Drawing, Metric, TableSpec
from mixtral_probe.trace import AblationResult, Result

Floats = NDArray[np.float64]
_WORDS = {
    "mask": "the expert cannot be chosen, the next best takes over, weights renormalised",
    "zero": "the expert's output is 0, weights kept",
    "zero_renorm": "the expert's output is 0, the token's other weights renormalised",
    "mean": "the expert's output is its mean over these documents, weights kept",
}


def ablation(result: Result, *, by: str | None = "domain") -> pd.DataFrame:
    """Return what is lost without each expert, compared with a placebo; intervals are paired by document.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope.

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
    """Yield rows of what is lost without each expert, and of what the placebo loses where it was run."""
    base = _for_each_expert(result, result.nll)
    lost, n, uses = (
        documents.sums(values)
        for values in (
            _by_expert(result.ablated) - base,
            _for_each_expert(result, result.tokens),
            _by_expert(result.routed),
        )
    )
    placebo, words = np.full_like(lost, np.nan), "no placebo was run"
    if result.has_placebo:
        placebo, words = documents.sums(_by_expert(result.placebo) - base), _MATCHED
    total, scope = placebo.sum(2), _about(result) + words
    plan: list[tuple[str, Floats, Floats, Floats | float, str]] = [
        ("loss_increase", lost, n, metrics.ratio(total, n.sum(2)), "no tokens"),
        ("loss_increase_per_use", lost, uses, metrics.ratio(total, uses.sum(2)), "the expert was never chosen"),
    ]
    if result.has_placebo:
        plan.append(("placebo_loss_increase", placebo, n, 0.0, "no tokens"))
        plan.append(("loss_increase_beyond_placebo", lost - placebo, n, 0.0, "no tokens"))
    for name, above, below, null, empty in plan:
        yield documents.ratio_rows(keys, name, above, below, null=null, scope=scope, empty=empty, bounds=ANY)


def _by_expert(sums: Floats) -> Floats:
    """[L, documents, E] of sums [L, E, documents]."""
    return np.moveaxis(sums, 1, -1)


def _for_each_expert(result: AblationResult, sums: Floats) -> Floats:
    """[L, documents, E] of sums [documents]."""
    layers, experts, documents = result.ablated.shape
    return np.broadcast_to(sums[:, None], (layers, documents, experts))


def _about(result: AblationResult) -> str:
    return f"one layer; tokens with a loss, special ones out; {_WORDS[result.semantics]}; "


_MATCHED = "placebo: as many assignments of random tokens, rank by rank and document by document"
SPEC = TableSpec(
    function=ablation,
    source="result",
    description="What is lost without each expert, compared with a placebo.",
    keys=("layer", "group", "expert"),
    metrics={
        "loss_increase": Metric(
            "mean loss per token without the expert less that with it, nats; null: its placebo",
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
            "all that is lost / tokens that chose the expert, nats; null: its placebo",
            "loss added per use",
            "+.3g",
            null=PLACEBO,
        ),
        "selection_frequency": replace(
            expert_load.SPEC.metrics["selection_frequency"],
            meaning="share of tokens that chose the expert, K/E when even",
        ),
    },
    figures=(Drawing("ablation"),),
    narrows=False,
    meanings={
        "null": COLUMNS["null"]._replace(
            meaning="what the placebo loses, or what `metric` says; empty where no placebo was run"
        )
    },
)
