"""Experts as functions, two by two: `expert_similarity`, `norm_gate_ranks`, `expert_subsets`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixtral_probe import metrics
from mixtral_probe.tables.by_document import ByDocument, Ratio, grid
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.trace import Result, SimilarityResult, SubsetsResult

KEYS = ("layer", "group", "expert", "other_expert")
SIMILARITY = {
    "weight_cosine": "cosine of all weights as they lie, in [-1, 1]; null: unrelated weights",
    "neuron_mean_cosine": "cosine of the mean neurons, in [-1, 1]; null: unrelated weights",
    "aligned_cosine": "mean cosine of neurons after the best assignment; null: the same of random neurons",
    "alignment_tau": "Kendall's tau of that assignment and the order as it is, in [-1, 1]; null: unrelated orders",
    "gate_cosine": "cosine of the two rows of the router, in [-1, 1]; null: unrelated rows",
    "router_logit_cosine": "cosine of the two router logits over tokens, in [-1, 1]; null: unrelated logits",
    "output_cosine": "mean over tokens of the cosine of the two outputs; null: of outputs for different tokens",
    "output_angular": "mean over tokens of 1 - angle / pi, in [0, 1]; null: right angles",
    "linear_cka": "linear centred kernel alignment of the two outputs, in [0, 1]; null: tokens of one shuffled",
    "gate_weight_correlation": "correlation over pairs of experts of gate_cosine and weight_cosine; one per layer",
    "gate_output_correlation": "correlation over pairs of experts of gate_cosine and output_cosine; one per layer",
}
RANK_KEYS = ("layer", "group", "gate_rank", "norm_rank")
RANKS = {"rank_share": "share of tokens whose expert of this place in the router's order has that of the lengths"}
SUBSET_KEYS = ("layer", "group", "size", "subset")
SUBSETS = {"subset_error": "||F(x; subset) - F(x)|| / ||F(x)|| of the layer's output; null: mean over subsets so large"}
COLUMNS = {
    "other_expert": "the other expert of the layer; empty, as `expert`, in rows about all pairs of the layer",
    "gate_rank": "the expert's place in the router's order, 0 = largest logit",
    "norm_rank": "the expert's place by the length of its output, 0 = longest",
    "size": "how many experts are kept",
    "subset": "the experts kept, with commas between",
    "n": "tokens of the sample; parameters of an expert, or pairs, where `scope` says so",
}
"""What columns mean here."""
_OF_WEIGHTS = ("weight_cosine", "neuron_mean_cosine", "aligned_cosine", "alignment_tau", "gate_cosine")


def expert_similarity(result: Result) -> pd.DataFrame:
    """How alike every two experts of a layer are, by weights, router rows and outputs.

    Columns: layer, group ("all"), expert, other_expert, metric, value, low, high, null, n, scope. Every pair comes in
    both orders. n is tokens of the sample, or parameters where only weights are compared. Rows without experts are
    about all pairs of the layer.

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
    return tidy([table[~same]], KEYS)


def _weights(result: SimilarityResult, keys: dict[str, Any], name: str) -> pd.DataFrame:
    size, model = result.axis("expert"), result.model
    width = model["hidden_size"]
    n = width if name == "gate_cosine" else 3 * width * model["intermediate_size"]
    null = float(result.aligned_cosine_chance) if name == "aligned_cosine" else 0.0
    scope = f"one layer of {len(size)} experts; n in parameters of each; no interval: weights have no sample"
    return rows(keys, name, result[name][:, None], null=null, n=n, scope=scope)


def _outputs(result: SimilarityResult, keys: dict[str, Any]) -> list[pd.DataFrame]:
    documents = ByDocument.of(result, None)
    tokens = documents.sums(np.broadcast_to(result.sampled, (len(result.axis("layer")), len(result.sampled))))
    tokens = tokens[..., None, None]
    about = "one layer; a sample of tokens, each given to both experts, special tokens out; "
    nulls: dict[str, ArrayLike] = {"output_cosine": result.output_cosine_shuffled[:, None], "output_angular": 0.5}
    parts = [
        Ratio(name, metrics.ratio, (documents.sums(result[name]), tokens), tokens, null, about + "mean over tokens",
              "no tokens", (-1, 1)).rows(keys, documents.folded)
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


def norm_gate_ranks(result: Result) -> pd.DataFrame:
    """Does the router prefer experts with long outputs? Places in its order against places in that of the lengths.

    Columns: layer, group ("all"), gate_rank, norm_rank, metric, value, low, high, null, n, scope. For each layer and
    gate_rank the shares sum to 1.

    Args:
        result: of the kind "expert_similarity", made with documents.

    Raises:
        InputError: the result is of another kind, or was made of weights alone.
    """
    result = SimilarityResult.require(result, "the table norm_gate_ranks")
    counts = result.rank_counts[:, None]
    tokens = counts.sum(-1, keepdims=True)
    scope = "one layer; a sample of tokens, each given to all experts, special tokens out; no interval: a sample"
    keys = grid(result, ("all",), "gate_rank", "norm_rank")
    even = 1 / counts.shape[-1]
    return tidy([rows(keys, "rank_share", counts / tokens, null=even, n=tokens, scope=scope)], RANK_KEYS)


def expert_subsets(result: Result) -> pd.DataFrame:
    """How far a layer's output is from that of all experts when some alone may be chosen.

    Columns: layer, group ("all"), size, subset, metric, value, low, high, null, n, scope; subset is text such as
    "0,3,5".

    Args:
        result: of the kind "expert_subsets".

    Raises:
        InputError: the result is of another kind.
    """
    result = SubsetsResult.require(result, "the table expert_subsets")
    kept, errors = result.kept, result.error[:, None]
    size = kept.sum(1)
    mean = np.stack([errors[..., size == own].mean(-1) for own in size], axis=-1)
    names = np.array([",".join(map(str, np.flatnonzero(mask))) for mask in kept], dtype=object)
    keys = grid(result, ("all",)) | {"size": size, "subset": names}
    keys = {name: np.expand_dims(array, -1) if name in ("layer", "group") else array for name, array in keys.items()}
    scope = "one layer, the others whole; a sample of tokens, special tokens out; no interval: a sample"
    parts = [rows(keys, "subset_error", errors, null=mean, n=result.sampled, scope=scope)]
    return tidy(parts, SUBSET_KEYS)
