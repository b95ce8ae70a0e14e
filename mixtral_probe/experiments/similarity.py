"""How alike the experts of a layer are, by their weights and by what they make of the same tokens."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from mixtral_probe import metrics
from mixtral_probe.corpus import Document
from mixtral_probe.experiments.sampled import Sample, all_outputs, mixture, sample
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.capture import POSITIONS_IN_A_BATCH
from mixtral_probe.run.plan import Plan, plan
from mixtral_probe.run.progress import OnProgress, ShouldStop
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result

Arrays = dict[str, np.ndarray]
SAMPLED_TOKENS = 1024
_PAIR = ("layer", "expert", "other_expert")


def similarity(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    tokens: int = SAMPLED_TOKENS,
    align: bool = True,
    model_name: str = "",
    corpus_name: str = "",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
) -> Result:
    """Compare every two experts of each layer.

    Args:
        documents: whose tokens every expert is given, chosen for them or not; with none, only weights are compared.
        tokens: at most so many of them, evenly spaced.
        align: find the best assignment of neurons to neurons too. Takes time with the cube of the expert size.

    Returns:
        a `Result` of the kind "expert_similarity", for `tables.expert_similarity` and `tables.norm_gate_ranks`.

    Raises:
        InputError: the input breaks a rule.
        CaptureStoppedError: ``should_stop`` said so.
    """
    arrays = _by_layer([_weights(model, layer, align) for layer in range(model.config.num_hidden_layers)])
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(arrays, _PAIR)
    labels, planned = {}, None
    if align:
        width, inner = 3 * model.config.hidden_size, model.config.intermediate_size
        arrays["aligned_cosine_chance"] = np.array(metrics.chance_aligned_cosine(inner, width))
        keys["aligned_cosine_chance"] = ()
    if documents:
        planned = plan(documents, tokenizer, model.config.max_position_embeddings)
        kept = sample(model, planned, tokens, positions_in_a_batch, on_progress, should_stop)
        found = _by_layer([_outputs(model, layer, kept, planned) for layer in range(len(kept.inputs))])
        keys |= {name: _OUTPUT_KEYS.get(name, _PAIR) for name in found}
        arrays |= found | {"sampled": _per_document(kept, planned, np.ones(len(kept.rows)))}
        keys["sampled"] = ("document",)
        labels["document"] = tuple(planned.documents["id"].astype(str))
    meta = experiment_meta(model, tokenizer, documents, (model_name, corpus_name), planned)
    return Result("expert_similarity", arrays, keys, labels, meta)


def expert_subsets(
    model: MixtralForCausalLM,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    sizes: Sequence[int],
    tokens: int = SAMPLED_TOKENS,
    model_name: str = "",
    corpus_name: str = "",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    positions_in_a_batch: int = POSITIONS_IN_A_BATCH,
) -> Result:
    """Try every subset of a layer's experts of some sizes: how far is the layer's output from that with all of them?

    Each layer by itself, with the inputs it has when all others are whole.

    Args:
        sizes: how many experts are kept.
        tokens: at most so many, evenly spaced.

    Returns:
        a `Result` of the kind "expert_subsets", for `tables.expert_subsets`.

    Raises:
        InputError: the input breaks a rule, or the subsets are more than 10,000.
        CaptureStoppedError: ``should_stop`` said so.
    """
    config = model.config
    subsets = metrics.expert_subsets(config.num_local_experts, sizes)
    planned = plan(documents, tokenizer, config.max_position_embeddings)
    kept = sample(model, planned, tokens, positions_in_a_batch, on_progress, should_stop)
    errors = np.zeros((config.num_hidden_layers, len(subsets)))
    for layer, inputs in enumerate(kept.inputs):
        outputs = all_outputs(model, layer, inputs)
        errors[layer] = [
            metrics.subset_error(kept.logits[layer], outputs, mask, chosen=config.num_experts_per_tok)
            for mask in subsets
        ]
    meta = experiment_meta(model, tokenizer, documents, (model_name, corpus_name), planned)
    meta["sampled"] = len(kept.rows)
    keys = {"error": ("layer", "subset"), "kept": ("subset", "expert")}
    return Result("expert_subsets", {"error": errors, "kept": subsets}, keys, {}, meta)


def neurons(model: MixtralForCausalLM, layer: int) -> np.ndarray:
    """[E, I, 3 C] float32: each neuron's rows of w1 and w3 and its column of w2."""
    experts = mixture(model, layer).experts
    w1, w3 = experts.gate_up_proj.detach().chunk(2, dim=1)
    return torch.cat([w1, w3, experts.down_proj.detach().transpose(1, 2)], dim=-1).float().cpu().numpy()


def _by_layer(found: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([arrays[name] for arrays in found]) for name in found[0]}


def _weights(model: MixtralForCausalLM, layer: int, align: bool) -> Arrays:
    held = neurons(model, layer)
    gate = mixture(model, layer).gate.weight.detach().float().cpu().numpy()
    found = {
        "weight_cosine": metrics.cosine_similarity(held.reshape(len(held), -1)),
        "neuron_mean_cosine": metrics.neuron_mean_cosine(held),
        "gate_cosine": metrics.cosine_similarity(gate),
    }
    if align:
        found |= {name: np.eye(len(held)) for name in ("aligned_cosine", "alignment_tau")}
        for i, j in combinations(range(len(held)), 2):
            cosine, tau = metrics.aligned_cosine(held[i], held[j])
            found["aligned_cosine"][[i, j], [j, i]], found["alignment_tau"][[i, j], [j, i]] = cosine, tau
    return found


def _outputs(model: MixtralForCausalLM, layer: int, kept: Sample, planned: Plan) -> Arrays:
    outputs = all_outputs(model, layer, kept.inputs[layer])  # [E, n, C]
    cosines = metrics.cosine_similarity(outputs.swapaxes(0, 1))  # [n, E, E]
    return {
        "output_cosine": _per_document(kept, planned, cosines),
        "output_angular": _per_document(kept, planned, metrics.angular_similarity(cosines)),
        "output_cosine_shuffled": metrics.shuffled_cosine(outputs),
        "linear_cka": metrics.linear_cka(outputs),
        "linear_cka_shuffled": metrics.shuffled_linear_cka(outputs),
        "router_logit_cosine": metrics.cosine_similarity(kept.logits[layer].T),
        "rank_counts": metrics.rank_counts(np.linalg.norm(outputs, axis=-1).T, kept.logits[layer]),
    }


_OUTPUT_KEYS = {
    "output_cosine": ("layer", "document", "expert", "other_expert"),
    "output_angular": ("layer", "document", "expert", "other_expert"),
    "rank_counts": ("layer", "gate_rank", "norm_rank"),
}


def _per_document(kept: Sample, planned: Plan, values: np.ndarray) -> np.ndarray:
    """[documents, ...] sums of the values [n, ...] of sampled tokens."""
    document = planned.tokens["document"].to_numpy()[kept.rows]
    sums = np.zeros((len(planned.documents), *values.shape[1:]))
    np.add.at(sums, document, values)
    return sums
