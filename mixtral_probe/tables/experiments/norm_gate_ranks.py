"""Whether the router prefers experts with long outputs: `norm_gate_ranks`."""

from dataclasses import replace

import pandas as pd

from mixtral_probe.tables.experiments.by_document import grid
from mixtral_probe.tables.experiments.expert_similarity import PAIR_COLUMNS
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.load import load_by_rank
from mixtral_probe.tables.spec import Column, Drawing, TableSpec
from mixtral_probe.trace import Result, SimilarityResult


@of_result
def norm_gate_ranks(result: Result) -> pd.DataFrame:
    """Return how the router's order of the experts agrees with the order of the lengths of their outputs.

    Columns: layer, group ("all"), gate_rank, norm_rank, metric, value, corrected, low, high, null, n, scope. For each
    layer and gate_rank the shares sum to 1.

    Args:
        result: of the kind "expert_similarity", with outputs on documents.

    Raises:
        InputError: the result is of another kind, or is about weights only.
    """
    result = SimilarityResult.require(result, "the table norm_gate_ranks")
    counts = result.rank_counts[:, None]
    tokens = counts.sum(-1, keepdims=True)
    scope = "one layer; a sample of tokens, each given to all experts, special tokens out; no interval: a sample"
    keys = grid(result, ("all",), "gate_rank", "norm_rank")
    even = 1 / counts.shape[-1]
    return tidy([rows(keys, "rank_share", counts / tokens, null=even, n=tokens, scope=scope)], SPEC)


SPEC = TableSpec(
    function=norm_gate_ranks,
    source="result",
    description="Whether the router prefers experts with long outputs; null: no connection.",
    keys=("layer", "group", "gate_rank", "norm_rank"),
    metrics={
        "rank_share": replace(
            load_by_rank.SPEC.metrics["rank_share"],
            meaning="share of tokens whose expert of this place in the router's order has that of the lengths",
        )
    },
    figures=(Drawing("norm_gate_ranks"),),
    narrows=False,
    meanings={
        "gate_rank": Column("the expert's place in the router's order, 0 = largest logit", "Int64"),
        "norm_rank": Column("the expert's place by the length of its output, 0 = longest", "Int64"),
        "n": PAIR_COLUMNS["n"],
    },
)
