"""Similarity of the experts of a layer, by their weights and by their outputs for the same tokens."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mixtral_probe import metrics
from mixtral_probe.experiments.neuron_matching import chance_cosine, match_neurons, matching_method
from mixtral_probe.experiments.router_inputs import RouterInputs, all_outputs, mixture
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.provenance import experiment_meta
from mixtral_probe.trace import SimilarityResult, SubsetsResult

Arrays = dict[str, np.ndarray]
SAMPLED_TOKENS = 1024
WEIGHTS_AT_ONCE = 2**24
"""Weights that are summed in float64 at a time."""


def similarity(
    subject: Subject, planned: Plan | None, options: RunOptions, *, tokens: int = SAMPLED_TOKENS, align: bool = True
) -> SimilarityResult:
    """Compare every two experts of each layer; see ``Probe.similarity``. Without a plan, by their weights alone."""
    model, config = subject.model, subject.config
    passes = Passes(replace(options, on_progress=None))
    arrays = _by_layer([_weights(model, layer, align, passes) for layer in range(config.num_hidden_layers)])
    labels, meta = {}, experiment_meta(subject, planned)
    if align:
        size = (config.intermediate_size, 3 * config.hidden_size)
        arrays["aligned_cosine_chance"] = np.array(chance_cosine(*size, subject.device))
        meta |= {"alignment": matching_method(config.intermediate_size)}
    if planned is not None:
        sample = RouterInputs.sample(subject, planned, options, tokens)
        outputs = _by_layer([_outputs(model, layer, sample, planned) for layer in range(len(sample.inputs))])
        arrays |= outputs | {"sampled": _per_document(sample, planned, np.ones(len(sample.rows)))}
        labels["document"] = tuple(map(str, planned.documents["id"]))
    return SimilarityResult.of(arrays, labels, meta)


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


def expert_neurons(model: MixtralForCausalLM, layer: int, expert: int, rows: slice = slice(None)) -> Tensor:
    """[I, 3 C] float32: each neuron's rows of w1 and w3 and its column of w2, of some neurons or all."""
    experts = mixture(model, layer).experts
    w1, w3 = experts.gate_up_proj[expert].detach().chunk(2)
    return torch.cat([w1[rows], w3[rows], experts.down_proj[expert].detach().t()[rows]], dim=-1).float()


def _by_layer(layers: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([arrays[name] for arrays in layers]) for name in layers[0]}


def _weights(model: MixtralForCausalLM, layer: int, align: bool, passes: Passes) -> Arrays:
    products, means = _weight_sums(model, layer)
    gate = mixture(model, layer).gate.weight.detach().float().cpu().numpy()
    cosines = {
        "weight_cosine": metrics.cosine_of_products(products),
        "neuron_mean_cosine": metrics.cosine_similarity(means),
        "gate_cosine": metrics.cosine_similarity(gate),
    }
    return cosines | (_aligned(model, layer, passes) if align else {})


def _weight_sums(model: MixtralForCausalLM, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """[E, E] inner products of the weights of every two experts, and [E, 3 C] their mean neurons; in float64."""
    experts = model.config.num_local_experts
    products, sums = np.zeros((experts, experts)), np.zeros((experts, 3 * model.config.hidden_size))
    inner = mixture(model, layer).experts.down_proj.shape[2]
    step = max(1, WEIGHTS_AT_ONCE // sums.size)
    for start in range(0, inner, step):
        rows = slice(start, start + step)
        block = torch.stack([expert_neurons(model, layer, expert, rows) for expert in range(experts)])
        block = block.cpu().double() if block.device.type == "mps" else block.double()  # Metal has no float64
        flat = block.flatten(1)  # [E, n · 3 C]
        products += (flat @ flat.T).cpu().numpy()
        sums += block.sum(1).cpu().numpy()
    return products, sums / inner


def _aligned(model: MixtralForCausalLM, layer: int, passes: Passes) -> Arrays:
    """[E, E] of each field of ``Matching``, under its name in the result."""
    experts = model.config.num_local_experts
    found = {name: np.eye(experts) for name in ("aligned_cosine", "alignment_tau", "aligned_cosine_bound")}
    for i, j in combinations(range(experts), 2):
        with passes.step():
            matching = match_neurons(expert_neurons(model, layer, i), expert_neurons(model, layer, j))
        for array, value in zip(found.values(), (matching.cosine, matching.tau, matching.bound), strict=True):
            array[[i, j], [j, i]] = value
    return found


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
