"""Experts as functions, two by two: `expert_similarity`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.by_document import ByDocument, grid
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.phrases import SHARE, UNRELATED
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import Result, SimilarityResult

_COSINE = (-1.0, 1.0)
_OF_WEIGHTS = ("weight_cosine", "neuron_mean_cosine", "aligned_cosine", "alignment_tau", "gate_cosine")


@of_result
def expert_similarity(result: Result) -> pd.DataFrame:
    """Return how alike every two experts of a layer are, by weights, router rows and outputs.

    Columns: layer, group ("all"), expert, other_expert, metric, value, corrected, low, high, null, n, scope. Every pair
    comes in both orders. n is tokens of the sample, or parameters where only weights are compared. Rows without experts
    are about all pairs of the layer.

    Args:
        result: of the kind "expert_similarity".

    Raises:
        InputError: the result is of another kind.
    """
    result = SimilarityResult.require(result, "the table expert_similarity")
    keys = grid(result, ("all",), "expert", "other_expert")
    parts = [_weights(result, keys, name) for name in _OF_WEIGHTS if name in result.arrays]
    parts.append(_correlation(result, "gate_weight_correlation", result.weight_cosine))
    if result.has_outputs:
        tokens = result.sampled.sum()
        output = metrics.ratio(result.output_cosine.sum(1), tokens)
        parts += [*_outputs(result, keys), _correlation(result, "gate_output_correlation", output)]
    table = pd.concat(parts, ignore_index=True)
    same = (table["expert"] == table["other_expert"]).fillna(False).to_numpy(bool)
    return tidy([table[~same]], SPEC)


def _weights(result: SimilarityResult, keys: dict[str, Any], name: str) -> pd.DataFrame:
    size, model = result.axis("expert"), result.model
    width = model["hidden_size"]
    n = width if name == "gate_cosine" else 3 * width * model["intermediate_size"]
    null = float(result.aligned_cosine_chance) if name == "aligned_cosine" else 0.0
    scope: Any = f"one layer of {len(size)} experts; n in parameters of each; no interval: weights have no sample"
    if name in ("aligned_cosine", "alignment_tau"):
        scope = _scope_of_alignment(result, scope)
    return rows(keys, name, result[name][:, None], null=null, n=n, scope=scope)


def _scope_of_alignment(result: SimilarityResult, scope: str) -> Any:
    """Which assignment was used; of a greedy one, for each pair, what the best could reach at most."""
    if result.alignment == "exact":
        return f"{scope}; neurons by the best assignment"
    halved = "neurons by greedy assignment: the sum of cosines above 0 is at least half of the largest possible"
    most = np.char.mod("%.4f", result.aligned_cosine_bound[:, None])
    return np.char.add(f"{scope}; {halved}; no assignment has a mean above ", most).astype(object)


def _outputs(result: SimilarityResult, keys: dict[str, Any]) -> list[pd.DataFrame]:
    documents = ByDocument.of(result, None)
    tokens = documents.sums(np.broadcast_to(result.sampled, (len(result.axis("layer")), len(result.sampled))))
    tokens = tokens[..., None, None]
    about = "one layer; a sample of tokens, each given to both experts, special tokens out; "
    nulls: dict[str, ArrayLike] = {"output_cosine": result.output_cosine_shuffled[:, None], "output_angular": 0.5}
    parts = [
        documents.ratio_rows(
            keys, name, documents.sums(result[name]), tokens, null=null, scope=about + "mean over tokens",
            bounds=_COSINE,
        )
        for name, null in nulls.items()
    ]  # fmt: skip
    n, none = int(result.sampled.sum()), about + "no interval: not a mean over tokens"
    cka, shuffled = result.linear_cka[:, None], result.linear_cka_shuffled[:, None]
    parts.append(rows(keys, "linear_cka", cka, null=shuffled, n=n, scope=none))
    parts.append(rows(keys, "router_logit_cosine", result.router_logit_cosine[:, None], null=0.0, n=n, scope=none))
    return parts


def _correlation(result: SimilarityResult, name: str, other: np.ndarray) -> pd.DataFrame:
    value = metrics.pair_correlation(result.gate_cosine, other)
    pairs = len(result.axis("expert")) * (len(result.axis("expert")) - 1) // 2
    known = np.isfinite(value)
    scope = np.where(known, "one layer; n in pairs; no interval: few pairs", "not enough data: pairs all alike")
    keys = {"layer": np.array(result.axis("layer")), "group": "all"}
    return rows(keys, name, value, null=0.0, n=np.where(known, pairs, 0), scope=scope)


PAIR_COLUMNS = {
    "other_expert": Column(
        "the other expert of the layer; empty, as `expert`, in rows about all pairs of the layer", "Int64"
    ),
    "n": Column("tokens of the sample; parameters of an expert, or pairs, where `scope` says so", "Int64"),
}
"""What these columns mean in the tables of similarity."""
SPEC = TableSpec(
    function=expert_similarity,
    source="result",
    description="How alike every two experts of a layer are; rows without experts are about all pairs of the layer.",
    keys=("layer", "group", "expert", "other_expert"),
    metrics={
        "weight_cosine": Metric(
            "cosine of all weights as they lie, in [-1, 1]; null: unrelated weights",
            "cosine of the weights",
            bounds=_COSINE,
            null=UNRELATED,
        ),
        "neuron_mean_cosine": Metric(
            "cosine of the mean neurons, in [-1, 1]; null: unrelated weights",
            "cosine of the mean neurons",
            bounds=_COSINE,
            null=UNRELATED,
        ),
        "aligned_cosine": Metric(
            "mean cosine of neurons that are assigned to each other, exactly up to 2,048 neurons, else "
            "greedily, as scope says; null: the same of random neurons",
            "cosine of paired neurons",
            bounds=_COSINE,
            null="random neurons",
        ),
        "alignment_tau": Metric(
            "Kendall's tau of that assignment and the order as it is, in [-1, 1]; null: unrelated orders",
            "order kept by the pairing, tau",
            ".2g",
            _COSINE,
            "unrelated orders",
        ),
        "gate_cosine": Metric(
            "cosine of the two rows of the router, in [-1, 1]; null: unrelated rows",
            "cosine of the router's rows",
            bounds=_COSINE,
            null=UNRELATED,
        ),
        "router_logit_cosine": Metric(
            "cosine of the two router logits over tokens, in [-1, 1]; null: unrelated logits",
            "cosine of the router logits",
            bounds=_COSINE,
            null=UNRELATED,
        ),
        "output_cosine": Metric(
            "mean over tokens of the cosine of the two outputs; null: of outputs for different tokens",
            "cosine of the outputs",
            bounds=_COSINE,
            null="outputs of different tokens",
        ),
        "output_angular": Metric(
            "mean over tokens of 1 - angle / pi, in [0, 1]; null: right angles",
            "angular similarity of the outputs",
            bounds=SHARE,
            null="right angles",
        ),
        "linear_cka": Metric(
            "linear centred kernel alignment of the two outputs, in [0, 1]; null: tokens of one shuffled",
            "linear CKA of the outputs",
            bounds=SHARE,
            null="tokens of one shuffled",
        ),
        "gate_weight_correlation": Metric(
            "correlation over pairs of experts of gate_cosine and weight_cosine; one per layer",
            "router's rows with weights, correlation",
            ".2g",
            _COSINE,
            UNRELATED,
        ),
        "gate_output_correlation": Metric(
            "correlation over pairs of experts of gate_cosine and output_cosine; one per layer",
            "router's rows with outputs, correlation",
            ".2g",
            _COSINE,
            UNRELATED,
        ),
    },
    figures=(Drawing("expert_similarity"),),
    narrows=False,
    meanings=PAIR_COLUMNS,
)
