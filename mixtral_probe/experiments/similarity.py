"""Similarity of the experts of a layer, by their weights and by their outputs for the same tokens."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from mixtral_probe import metrics
from mixtral_probe.experiments.router_inputs import RouterInputs, all_outputs, mixture
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run import Plan, RunOptions, Subject
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace import SimilarityResult, SubsetsResult

Arrays = dict[str, np.ndarray]
SAMPLED_TOKENS = 1024


def similarity(
    subject: Subject, planned: Plan | None, options: RunOptions, *, tokens: int = SAMPLED_TOKENS, align: bool = True
) -> SimilarityResult:
    """Compare every two experts of each layer; see ``Probe.similarity``. Without a plan, by their weights alone."""
    model, config = subject.model, subject.config
    arrays = _by_layer([_weights(model, layer, align) for layer in range(config.num_hidden_layers)])
    labels = {}
    if align:
        chance = metrics.chance_aligned_cosine(config.intermediate_size, 3 * config.hidden_size)
        arrays["aligned_cosine_chance"] = np.array(chance)
    if planned is not None:
        sample = RouterInputs.sample(subject, planned, options, tokens)
        outputs = _by_layer([_outputs(model, layer, sample, planned) for layer in range(len(sample.inputs))])
        arrays |= outputs | {"sampled": _per_document(sample, planned, np.ones(len(sample.rows)))}
        labels["document"] = tuple(planned.documents["id"].astype(str))
    return SimilarityResult.of(arrays, labels, experiment_meta(subject, planned))


def expert_subsets(
    subject: Subject, planned: Plan, options: RunOptions, *, sizes: Sequence[int], tokens: int = SAMPLED_TOKENS
) -> SubsetsResult:
    """Measure how far each layer's output moves when only a subset of its experts remains; see ``Probe``.

    Each layer by itself, with the inputs it has when all others are whole.
    """
    config = subject.config
    subsets = metrics.expert_subsets(config.num_local_experts, sizes)
    sample = RouterInputs.sample(subject, planned, options, tokens)
    errors = np.zeros((config.num_hidden_layers, len(subsets)))
    for layer, inputs in enumerate(sample.inputs):
        outputs = all_outputs(subject.model, layer, inputs)
        errors[layer] = [
            metrics.subset_error(sample.logits[layer], outputs, mask, chosen=config.num_experts_per_tok)
            for mask in subsets
        ]
    meta = experiment_meta(subject, planned) | {"sampled": len(sample.rows)}
    return SubsetsResult.of({"error": errors, "kept": subsets}, meta=meta)


def neurons(model: MixtralForCausalLM, layer: int) -> np.ndarray:
    """[E, I, 3 C] float32: each neuron's rows of w1 and w3 and its column of w2."""
    experts = mixture(model, layer).experts
    w1, w3 = experts.gate_up_proj.detach().chunk(2, dim=1)
    return torch.cat([w1, w3, experts.down_proj.detach().transpose(1, 2)], dim=-1).float().cpu().numpy()


def _by_layer(layers: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([arrays[name] for arrays in layers]) for name in layers[0]}


def _weights(model: MixtralForCausalLM, layer: int, align: bool) -> Arrays:
    weights = neurons(model, layer)
    gate = mixture(model, layer).gate.weight.detach().float().cpu().numpy()
    cosines = {
        "weight_cosine": metrics.cosine_similarity(weights.reshape(len(weights), -1)),
        "neuron_mean_cosine": metrics.neuron_mean_cosine(weights),
        "gate_cosine": metrics.cosine_similarity(gate),
    }
    if align:
        cosines |= {name: np.eye(len(weights)) for name in ("aligned_cosine", "alignment_tau")}
        for i, j in combinations(range(len(weights)), 2):
            cosine, tau = metrics.aligned_cosine(weights[i], weights[j])
            cosines["aligned_cosine"][[i, j], [j, i]], cosines["alignment_tau"][[i, j], [j, i]] = cosine, tau
    return cosines


def _outputs(model: MixtralForCausalLM, layer: int, sample: RouterInputs, planned: Plan) -> Arrays:
    outputs = all_outputs(model, layer, sample.inputs[layer])  # [E, n, C]
    cosines = metrics.cosine_similarity(outputs.swapaxes(0, 1))  # [n, E, E]
    return {
        "output_cosine": _per_document(sample, planned, cosines),
        "output_angular": _per_document(sample, planned, metrics.angular_similarity(cosines)),
        "output_cosine_shuffled": metrics.shuffled_cosine(outputs),
        "linear_cka": metrics.linear_cka(outputs),
        "linear_cka_shuffled": metrics.shuffled_linear_cka(outputs),
        "router_logit_cosine": metrics.cosine_similarity(sample.logits[layer].T),
        "rank_counts": metrics.rank_counts(np.linalg.norm(outputs, axis=-1).T, sample.logits[layer]),
    }


def _per_document(sample: RouterInputs, planned: Plan, values: np.ndarray) -> np.ndarray:
    """[documents, ...] sums of the values [n, ...] of sampled tokens."""
    document = planned.tokens["document"].to_numpy()[sample.rows]
    sums = np.zeros((len(planned.documents), *values.shape[1:]))
    np.add.at(sums, document, values)
    return sums
