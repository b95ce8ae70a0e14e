"""The memory, disk and time of a run, estimated before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.calibration import Calibration, calibrate
from mixtral_probe.run.capture_costs import attention_costs, step_costs
from mixtral_probe.run.disk import added_bytes, record_bytes
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.plan import Plan, batches, longer
from mixtral_probe.run.scoring import POSITIONS_AT_ONCE
from mixtral_probe.run.subject import Subject
from mixtral_probe.trace import AttentionPlan


@dataclass(frozen=True, slots=True)
class ResourceEstimate:
    """Resources of a capture or an experiment, by a calibration on its device."""

    documents: int
    tokens: int
    memory_bytes: int
    """Weights, activations and arrays at the peak, without the Python process itself."""
    disk_bytes: int
    """Of the trace, exact to a few percent, and its statistics, at most; 0 for an experiment."""
    seconds: float


@dataclass(frozen=True)
class PlanCosts:
    """What the forward passes of a plan cost on a model's device."""

    subject: Subject
    planned: Plan
    shapes: tuple[tuple[int, int], ...]
    """[rows, positions] of every batch."""
    calibration: Calibration

    @classmethod
    def of(cls, subject: Subject, planned: Plan, options: RunOptions) -> "PlanCosts":
        """Cut a plan into batches, and calibrate the model."""
        made = batches(planned.windows, options.positions_in_a_batch)
        shapes = tuple((len(some), max(window.length for window in some)) for some in made)
        return cls(subject, planned, shapes, calibrate(subject.model))

    @property
    def layers(self) -> int:
        """Of the model."""
        return self.subject.config.num_hidden_layers

    @property
    def positions(self) -> int:
        """Of all batches, padding included."""
        return sum(rows * length for rows, length in self.shapes)

    @property
    def largest(self) -> int:
        """Positions of the largest batch."""
        return max(rows * length for rows, length in self.shapes)

    @property
    def longest(self) -> int:
        """Positions of the longest window."""
        return max(length for _, length in self.shapes)

    def forward(self) -> float:
        """Seconds of one pass over the plan through all layers."""
        return self.calibration.forward(self.shapes, self.layers)

    def scores(self) -> float:
        """Seconds of the loss and the best next token of all positions."""
        return self.calibration.score_seconds * self.positions

    def memory(self, largest: int | None = None, in_layers: int = 0, scored: int | None = None) -> int:
        """Bytes of weights and activations at the peak.

        Args:
            largest: positions of the largest call, by default those of the largest batch.
            in_layers: bytes beside the activations of the layers.
            scored: bytes while logits are scored, by default those of the loss and the best next token.
        """
        count = self.largest if largest is None else largest
        held = hidden_bytes(self.subject, count) + self._uneven(count)
        if scored is None:  # the logits of one part are there until those of the next are
            scored = int(min(count, 2 * POSITIONS_AT_ONCE) * self.calibration.score_bytes)
        layers = count * self.calibration.row_bytes + self._uneven(count) + in_layers
        return weight_bytes(self.subject.model) + int(max(layers, scored + held))

    def _uneven(self, count: int) -> int:
        """Bytes by which the expert with the most rows outgrows an even share, taken as three quarters of one."""
        config, size = self.subject.config, self.subject.model.lm_head.weight.element_size()
        even = count * config.num_experts_per_tok / config.num_local_experts
        return int(0.75 * even * 3 * config.intermediate_size * size)

    def estimate(self, seconds: float, memory: float | None = None) -> ResourceEstimate:
        """The estimate of an experiment that takes so long, and so much memory if not that of a plain pass."""
        tokens, documents = len(self.planned.token_ids), len(self.planned.documents)
        return ResourceEstimate(documents, tokens, self.memory() if memory is None else int(memory), 0, seconds)


def estimate(
    subject: Subject, planned: Plan, options: RunOptions, *, attention: AttentionPlan | None = None, new_tokens: int = 0
) -> ResourceEstimate:
    """Estimate a capture of a plan, each document continued by some new tokens."""
    windows = longer(planned.windows, new_tokens) if new_tokens else planned.windows
    costs = PlanCosts.of(subject, planned, options)
    record = record_bytes(subject, planned, attention, new_tokens)
    seconds, slices = costs.forward() + costs.scores(), 0
    if attention is not None:
        recorded = attention_costs(subject.model)
        seconds += recorded.seconds(attention, [window.length for window in windows])
        slices = recorded.bytes(attention, costs.shapes)
    memory = costs.memory(in_layers=slices) + record
    if new_tokens:
        made = batches(windows, options.positions_in_a_batch)
        seconds += new_token_seconds(subject, [len(some) for some in made], new_tokens)
        memory += cache_bytes(subject, costs.largest)
    tokens = sum(window.length for window in windows)
    disk = record + added_bytes(subject, planned, new_tokens)
    return ResourceEstimate(len(planned.documents), tokens, memory, disk, seconds)


def new_token_seconds(subject: Subject, texts: Sequence[int], new_tokens: int) -> float:
    """Seconds of continuing batches of so many texts, once their prompts have run."""
    steps, layers = step_costs(subject.model), subject.config.num_hidden_layers
    return max(0, new_tokens - 1) * sum(steps.seconds(rows, layers) for rows in texts)


def hidden_bytes(subject: Subject, positions: int) -> int:
    """Bytes of the residual stream of so many positions."""
    return positions * subject.config.hidden_size * subject.model.lm_head.weight.element_size()


def cache_bytes(subject: Subject, positions: int) -> int:
    """Bytes of keys and values of so many positions in all layers."""
    config, size = subject.config, subject.model.lm_head.weight.element_size()
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_size * positions * size


def weight_bytes(model: MixtralForCausalLM) -> int:
    """Bytes of the weights; on an accelerator, all that its allocator has given out."""
    counted = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    device = model.lm_head.weight.device
    allocator = torch.get_device_module(device)
    if device.type != "cpu" and hasattr(allocator, "memory_allocated"):
        return max(counted, int(allocator.memory_allocated(device)))
    return counted
