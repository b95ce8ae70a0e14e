"""The memory, disk and time of a run, estimated before it starts."""

import time
from dataclasses import dataclass, replace

import torch

from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.model.attention.weights import SLICE_ELEMENTS
from mixtral_probe.run.options import RunOptions
from mixtral_probe.run.plan import Plan, batches, longer
from mixtral_probe.run.scoring import POSITIONS_AT_ONCE
from mixtral_probe.run.subject import Subject
from mixtral_probe.stats.stats_size import statistics_bytes
from mixtral_probe.trace import AttentionPlan, TraceMeta, estimate_bytes

ATTAINED = 0.35
"""Share of the speed of one large matrix product that a whole forward pass reaches (measured on a CPU: 0.3–0.5)."""
STEP_SECONDS, READ_BYTES = 4e-4, 8e9
"""The least time of one layer in one step of generation, and bytes of weights read in a second: roughly, on a CPU."""


@dataclass(frozen=True, slots=True)
class ResourceEstimate:
    """Resources of a capture or an experiment. Memory and time are rough."""

    documents: int
    tokens: int
    memory_bytes: int
    """Weights and activations at the peak, without the Python process itself."""
    disk_bytes: int
    """Of the trace, exact to a few percent, and its statistics, at most; 0 for an experiment."""
    seconds: float


def estimate_passes(subject: Subject, planned: Plan, options: RunOptions, passes: float) -> ResourceEstimate:
    """Estimate an experiment of so many forward passes over a plan, of which nothing but sums is kept."""
    once = estimate(subject, planned, options)
    return replace(once, disk_bytes=0, seconds=once.seconds * passes)


def estimate(
    subject: Subject, planned: Plan, options: RunOptions, *, attention: AttentionPlan | None = None, new_tokens: int = 0
) -> ResourceEstimate:
    """Estimate a capture of a plan, each document continued by some new tokens."""
    config, model, positions = subject.config, subject.model, options.positions_in_a_batch
    meta = TraceMeta(
        num_layers=config.num_hidden_layers,
        num_experts=config.num_local_experts,
        num_experts_per_tok=config.num_experts_per_tok,
        num_heads=config.num_attention_heads,
    )
    windows = longer(planned.windows, new_tokens) if new_tokens else planned.windows
    lengths = [window.length for window in windows]
    places = [(w.document, w.chunk, w.length) for w in windows]
    steps = new_tokens * sum(1 for _ in batches(windows, positions)) if new_tokens else 0
    return ResourceEstimate(
        documents=len(planned.documents),
        tokens=sum(lengths),
        memory_bytes=_memory(model, max(positions, *lengths, 1), attention),
        disk_bytes=estimate_bytes(meta, places, attention=attention) + added_bytes(subject, planned, new_tokens),
        seconds=_operations(model, lengths, attention) / (ATTAINED * _speed(model.lm_head.weight))
        + steps * (config.num_hidden_layers * STEP_SECONDS + _weight_bytes(model) / READ_BYTES),
    )


def added_bytes(subject: Subject, planned: Plan, new_tokens: int = 0) -> int:
    """Return at most how many bytes of statistics a capture adds to its trace."""
    config = subject.config
    return statistics_bytes(
        planned.documents, planned.tokens, layers=config.num_hidden_layers, experts=config.num_local_experts,
        chosen=config.num_experts_per_tok, new_tokens=new_tokens,
    )  # fmt: skip


def _memory(model: MixtralForCausalLM, positions: int, attention: AttentionPlan | None) -> int:
    config, size = model.config, model.lm_head.weight.element_size()
    weights = _weight_bytes(model)
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    row = 8 * config.hidden_size + heads * config.head_size + 3 * config.intermediate_size
    logits = 3 * POSITIONS_AT_ONCE * config.vocab_size * 4
    slices = 4 * SLICE_ELEMENTS * 4 if attention is not None else 0
    return weights + positions * row * size + logits + slices


def _weight_bytes(model: MixtralForCausalLM) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _operations(model: MixtralForCausalLM, lengths: list[int], attention: AttentionPlan | None) -> float:
    """Floating point operations: two per active weight and token, and four per query, key and attention channel."""
    config = model.config
    squares = sum(length**2 for length in lengths) * config.num_attention_heads * config.head_size
    heads = 0 if attention is None else sum(len(some) for some in attention.layers.values())
    extra = heads * config.head_size * sum(length**2 for length in lengths) * 4
    return 2.0 * config.num_active_parameters() * sum(lengths) + 2.0 * squares * config.num_hidden_layers + extra


def _speed(like: torch.Tensor) -> float:
    """Operations per second of a matrix product in the model's dtype and on its device."""
    size, rounds = 768, 3
    matrix = torch.ones(size, size, dtype=like.dtype, device=like.device)
    (matrix @ matrix).sum().item()
    start = time.perf_counter()
    for _ in range(rounds):
        result = matrix @ matrix
    result.sum().item()
    return 2.0 * size**3 * rounds / max(time.perf_counter() - start, 1e-6)
