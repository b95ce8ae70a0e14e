"""What each experiment will take, by a calibration of its model's device."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from mixtral_probe import metrics
from mixtral_probe.experiments.ablation import Sweep
from mixtral_probe.experiments.compared_scores import ROWS_AT_ONCE, Run, compared_scores
from mixtral_probe.experiments.expert_sums import ExpertMeter, ExpertSums
from mixtral_probe.experiments.lens_scores import elements_at_once
from mixtral_probe.experiments.logit_lens import of_rows
from mixtral_probe.experiments.neuron_matching import greedy_assignment, match_neurons, matching_method
from mixtral_probe.experiments.placebo_draws import HELD_BYTES
from mixtral_probe.experiments.similarity import WEIGHTS_AT_ONCE
from mixtral_probe.experiments.what_if import what_if_passes, what_if_runs
from mixtral_probe.instruments.edits import Edit
from mixtral_probe.run import Plan, RunOptions, Subject
from mixtral_probe.run.calibration import measured, seconds
from mixtral_probe.run.estimate import PlanCosts, ResourceEstimate, hidden_bytes, new_token_seconds, weight_bytes
from mixtral_probe.run.forward import forward
from mixtral_probe.run.scoring import POSITIONS_AT_ONCE
from mixtral_probe.run.twin import Twin

_ROWS = 64
"""Positions of what is measured."""
_NEURONS = 512
"""Of experts whose matching is measured; more take time with this power of their number."""
_EXACT_POWER, _GREEDY_POWER = 2.6, 2.0


def estimate_what_if(
    subject: Subject, planned: Plan, options: RunOptions, edits: Sequence[Edit], *, placebos: int,
    generate: int | None = None,
) -> ResourceEstimate:  # fmt: skip
    """Estimate ``what_if``: its passes and comparisons, and its continuations, of all draws."""
    costs, compared = PlanCosts.of(subject, planned, options), measured(subject.model, "comparison", _comparison)
    runs = what_if_runs(placebos) + (placebos > 0)  # the run without edits is scored again with the draws
    taken = costs.forward() * what_if_passes(subject, edits, placebos) + compared * costs.positions * runs
    if generate:
        rows = [1, 1, *_parts(placebos, max(1, options.positions_in_a_batch // costs.longest))]
        taken += len(planned.documents) * new_token_seconds(subject, rows, generate)
        taken += (2 + placebos) * costs.forward()
    together = max(costs.largest, min(options.positions_in_a_batch, placebos * costs.largest))
    logits = 6 * min(costs.largest, ROWS_AT_ONCE) * subject.config.vocab_size * 4
    held = hidden_bytes(subject, (1 + placebos) * costs.largest)
    return costs.estimate(taken, costs.memory(together, scored=logits) + min(held, HELD_BYTES))


def estimate_ablation(subject: Subject, planned: Plan, options: RunOptions, sweep: Sweep) -> ResourceEstimate:
    """Estimate ``ablation``: each run begins at the layer it changes, and is scored."""
    costs = PlanCosts.of(subject, planned, options)
    taken = costs.forward() * sweep.passes(costs.layers) + costs.scores() * sweep.runs
    stored = hidden_bytes(subject, len(sweep.layers) * costs.largest)
    together = max(rows * length * _at_once(sweep.placebos, options, rows * length) for rows, length in costs.shapes)
    return costs.estimate(taken, costs.memory(together) + stored)


def estimate_saliency(subject: Subject, planned: Plan, options: RunOptions) -> ResourceEstimate:
    """Estimate ``saliency``: one pass, the sums of each expert's outputs, and the tokens that they promote."""
    costs, config = PlanCosts.of(subject, planned, options), subject.config
    each, row, product = measured(subject.model, "saliency", _saliency)
    taken = costs.forward() + costs.layers * (each * len(costs.shapes) + row * costs.positions)
    return costs.estimate(taken + costs.layers * config.num_local_experts * product)


def estimate_logit_lens(subject: Subject, planned: Plan, options: RunOptions) -> ResourceEstimate:
    """Estimate ``logit_lens``: windows one by one, and every layer's logits."""
    costs, config = PlanCosts.of(subject, planned, replace(options, positions_in_a_batch=1)), subject.config
    reference, layer = measured(subject.model, "lens", _lens)
    read = min(costs.longest, POSITIONS_AT_ONCE) * config.vocab_size
    logits = read * (8 + 2 * 4) + min(read, elements_at_once(subject.device)) * 4 * 8
    memory = costs.memory(scored=logits) + hidden_bytes(subject, (costs.layers + 1) * costs.longest)
    return costs.estimate(costs.forward() + costs.positions * (reference + costs.layers * layer), memory)


def estimate_similarity(
    subject: Subject, planned: Plan | None, options: RunOptions, *, tokens: int, align: bool
) -> ResourceEstimate:
    """Estimate ``similarity``: sums and matchings of weights, and all outputs for a sample of tokens."""
    config, model = subject.config, subject.model
    experts, layers, inner = config.num_local_experts, config.num_hidden_layers, config.intermediate_size
    per_weight, pair, plain, squared = measured(model, "similarity", _similarity)
    taken = layers * experts * inner * 3 * config.hidden_size * per_weight
    neurons = 2 * inner * 3 * config.hidden_size * 4
    memory = weight_bytes(model) + 12 * min(WEIGHTS_AT_ONCE, experts * inner * 3 * config.hidden_size)
    if align:
        taken += (layers * experts * (experts - 1) / 2 + 1) * pair
        memory += 2 * inner**2 * (4 if matching_method(inner) == "greedy" else 8) + neurons
    if planned is None:
        return ResourceEstimate(0, 0, memory, 0, taken)
    costs, sample = PlanCosts.of(subject, planned, options), min(tokens, len(planned.token_ids))
    shares = experts / config.num_experts_per_tok
    outputs = layers * sample * (costs.calibration.row_seconds * shares + plain + sample * squared)
    kept = layers * sample * (config.hidden_size + experts) * 4 + 4 * experts * sample * config.hidden_size * 8
    return costs.estimate(taken + costs.forward() + outputs, max(memory, costs.memory()) + kept)


def estimate_time(
    subject: Subject, planned: Plan, options: RunOptions, *, repeats: int, warmup: int, memory: bool
) -> ResourceEstimate:
    """Estimate ``time``: its runs with timers and without; the one that counts memory is as long as a few."""
    costs = PlanCosts.of(subject, planned, options)
    return costs.estimate((costs.forward() + costs.scores()) * (warmup + 2 * repeats + 3 * memory))


def _at_once(placebos: int, options: RunOptions, positions: int) -> int:
    """Draws of a placebo in one forward pass."""
    return max(1, min(placebos, options.positions_in_a_batch // positions))


def _parts(number: int, at_once: int) -> list[int]:
    return [min(at_once, number - first) for first in range(0, number, at_once)]


def _comparison(twin: Twin) -> float:
    """Seconds of a position of one run that is compared with another."""
    batch = twin.batch(1, _ROWS)
    out = forward(twin.short, batch)
    run = Run(out.last_hidden_state, out.context)
    one, three = (seconds(partial(compared_scores, twin.short, batch, run, [run] * n), twin.device) for n in (1, 3))
    return max(three - one, one / 2) / (2 * _ROWS)


def _saliency(twin: Twin) -> tuple[float, float, float]:
    """Seconds of the meter in a layer of one call, for each position, and of the tokens one expert promotes."""
    few, many = (_metered(twin, rows) for rows in (1, _ROWS // 8))
    row = max(0.0, many - few) / (_ROWS * 4 - 32)
    head = twin.short.lm_head.weight
    vector = torch.ones(head.shape[1], device=head.device)
    return max(0.0, few - 32 * row), row, seconds(lambda: (head.float() @ vector).topk(1), twin.device)


def _metered(twin: Twin, rows: int) -> float:
    """Seconds that the meter adds to one layer of a batch [rows, 32]."""
    batch = twin.batch(rows, 32)
    meter = ExpertMeter(ExpertSums.empty(twin.short, rows, 8), batch, np.zeros(rows * 32, np.int64))
    return max(
        0.0,
        seconds(partial(forward, twin.short, batch, [meter]), twin.device)
        - seconds(partial(forward, twin.short, batch), twin.device),
    )


def _lens(twin: Twin) -> tuple[float, float]:
    """Seconds of a position: of the last layer as the one that others are compared with, and of each layer."""
    weight = twin.short.lm_head.weight
    hidden = torch.randn(1, _ROWS, weight.shape[1], device=weight.device).to(weight.dtype)
    following = twin.batch(1, _ROWS).ids[0]
    one, three = (seconds(partial(of_rows, twin.short, [hidden] * n, following, 5), twin.device) for n in (1, 3))
    layer = max(three - one, one / 2) / 2
    return max(0.0, one - layer) / _ROWS, layer / _ROWS


def _similarity(twin: Twin) -> tuple[float, float, float, float]:
    """Seconds of a weight, of matching two experts, and of the outputs for a token: each, and with every other."""
    config = twin.short.config
    experts, width = config.num_local_experts, config.hidden_size
    block = torch.ones(experts, 2**18 // experts, dtype=twin.short.lm_head.weight.dtype, device=twin.device)
    summed = seconds(partial(_products, block), twin.device) / block.numel()
    plain, squared = _outputs(experts, width)
    return summed, _pair_seconds(twin, config.intermediate_size, 3 * width), plain, squared


def _products(block: torch.Tensor) -> torch.Tensor:
    wide = block.float().cpu().double() if block.device.type == "mps" else block.float().double()
    return wide @ wide.T


def _pair_seconds(twin: Twin, neurons: int, width: int) -> float:
    some, method = min(neurons, _NEURONS), matching_method(neurons)
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(some, width, generator=draw).to(twin.device) for _ in range(2))
    if method == "exact":
        return seconds(partial(match_neurons, one, other), twin.device) * (neurons / some) ** _EXACT_POWER
    taken = seconds(lambda: greedy_assignment(one @ other.T), twin.device)
    return taken * (neurons / some) ** _GREEDY_POWER


def _outputs(experts: int, width: int) -> tuple[float, float]:
    """Seconds of a token, and of two tokens, in the comparison of outputs, which is made on the host."""
    host, few, many = torch.device("cpu"), 16, _ROWS
    draw = np.random.default_rng(0)
    one, other = (seconds(partial(_compared, draw.standard_normal((experts, n, width))), host) for n in (few, many))
    squared = max(0.0, other / many - one / few) / (many - few)
    return max(0.0, one / few - few * squared), squared


def _compared(outputs: np.ndarray) -> None:
    metrics.angular_similarity(metrics.cosine_similarity(outputs.swapaxes(0, 1)))
    metrics.shuffled_cosine(outputs)
    metrics.linear_cka(outputs)
    metrics.shuffled_linear_cka(outputs)
