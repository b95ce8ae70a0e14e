"""How much each expert adds to its tokens: `saliency`."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.by_document import ByDocument, grid
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.load import expert_load
from mixtral_probe.tables.phrases import EVEN_USE, POSITIVE, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, SaliencyResult

Floats = NDArray[np.float64]


@of_result
def saliency(result: Result, *, by: str | None = "domain") -> pd.DataFrame:
    """Return how much each expert adds to the tokens routed to it, and which are super experts.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope.

    Args:
        result: of the kind "saliency".
        by: a label of the documents, with rows for each of its values besides those of "all"; None for none.

    Raises:
        InputError: the result is of another kind, or the documents lack the label.
    """
    result = SaliencyResult.require(result, "the table saliency")
    documents = ByDocument.of(result, by)
    keys = grid(result, documents.groups, "expert")
    return tidy([*_means(result, documents, keys), *_largest(result)], SPEC)


def _means(result: SaliencyResult, documents: ByDocument, keys: dict[str, Any]) -> Iterator[pd.DataFrame]:
    counts, norms, gated, gates = (documents.sums(result[name]) for name in ("counts", "norms", "gated_norms", "gates"))
    chosen, experts = result.experts_per_token, counts.shape[-1]
    tokens = np.broadcast_to(counts.sum(-1, keepdims=True) / chosen, counts.shape)
    about = "one layer; special tokens out; "
    for name, above, null, words in (
        ("selection_frequency", counts, chosen / experts, "share of tokens"),
        ("weighted_frequency", gates, 1 / experts, "weights / tokens"),
    ):
        yield documents.ratio_rows(keys, name, above, tokens, null=null, scope=about + words, bounds=SHARE)
    words = about + "mean over the expert's tokens; null: over all assignments of the layer"
    for name, above in (("activation_norm", norms), ("reap", gated)):
        null, empty = _layer_mean(above, counts), "the expert was never chosen"
        yield documents.ratio_rows(keys, name, above, counts, null=null, scope=words, empty=empty)


def _layer_mean(sums: Floats, counts: Floats) -> Floats:
    """[L, G, 1] the mean over all assignments of a layer."""
    return metrics.ratio(sums.sum((2, 3)), counts.sum((2, 3)))[..., None]


def _largest(result: SaliencyResult) -> list[pd.DataFrame]:
    keys = grid(result, ("all",), "expert")
    largest, n = result.largest, result.counts.sum(1)[:, None]
    threshold = metrics.super_expert_threshold(largest)
    about = "all layers compared; all tokens; n without special tokens; "
    above = result.super_experts.astype(float)
    return [
        rows(keys, "largest_output", largest[:, None], null=threshold, n=n, scope=about + "no interval: a maximum"),
        rows(keys, "super_expert", above[:, None], null=0.0, n=n, scope=about + "no interval: yes or no"),
    ]


_LAYER = "all of the layer"
SPEC = TableSpec(
    function=saliency,
    source="result",
    description="How much each expert adds to the tokens routed to it, and which are super experts.",
    keys=("layer", "group", "expert"),
    metrics={
        "selection_frequency": replace(
            expert_load.SPEC.metrics["selection_frequency"],
            meaning="share of tokens that chose the expert, n_i / T, K/E when even",
        ),
        "weighted_frequency": Metric(
            "sum of the expert's routing weights / tokens, 1/E when even",
            "routing weight per token",
            ".1%",
            SHARE,
            EVEN_USE,
        ),
        "activation_norm": Metric(
            "EAN: mean length of the expert's output over its tokens; null: over all of the layer",
            "mean length of its output",
            bounds=POSITIVE,
            null=_LAYER,
        ),
        "reap": Metric(
            "mean of routing weight times output length over its tokens; null: over all of the layer",
            "weight times length (REAP)",
            bounds=POSITIVE,
            null=_LAYER,
        ),
        "largest_output": Metric(
            "largest |value| of any channel of its output on any token; null: threshold of a super expert",
            "largest value of its output",
            bounds=POSITIVE,
            null="a super expert's",
        ),
        "super_expert": Metric(
            "1 if its largest output is above the threshold and its layer forms massive activations, else 0",
            "super expert",
            ".0f",
            SHARE,
            "none",
        ),
    },
    figures=(Drawing("saliency"),),
    narrows=False,
)
