"""What recording attention and generating tokens cost, measured like forward passes when it is asked for."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from mixtral_probe.instruments import GenerationRecorder, copier_for
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.model.attention.weights import SLICE_ELEMENTS
from mixtral_probe.run.calibration import calibrate, measured, peak_bytes, seconds
from mixtral_probe.run.capture import record_batch
from mixtral_probe.run.twin import Twin
from mixtral_probe.trace import AttentionPlan, TraceBuilder, TraceMeta

_LENGTH, _SHORTER = 512, 128
"""Positions of the window whose attention is measured; the fewer where a layer takes longer than 0.05 s."""
_ROWS = (1, 8)
"""Texts that are continued together."""
_STEPS = 8
_SLOW = 0.004
"""Seconds of a layer above which a step of generation takes no longer than its layers."""


@dataclass(frozen=True)
class AttentionCosts:
    """Of each recorded weight of a head: seconds, and bytes at the peak for each of those that are computed at once."""

    weight_seconds: float
    weight_bytes: float

    def seconds(self, plan: AttentionPlan, lengths: list[int]) -> float:
        """Seconds beyond those of the forward pass, for windows of these lengths."""
        return self.weight_seconds * _heads(plan) * sum(length**2 for length in lengths)

    def bytes(self, plan: AttentionPlan, shapes: tuple[tuple[int, int], ...]) -> int:
        """Bytes at the peak, for batches of these [rows, positions]."""
        most = max(len(heads) for heads in plan.layers.values())
        slices = [rows * length**2 * max(1, min(most, SLICE_ELEMENTS // (rows * length**2))) for rows, length in shapes]
        return int(max(slices) * self.weight_bytes)


@dataclass(frozen=True)
class StepCosts:
    """Seconds of one new token of each of some texts that are continued together."""

    rows: tuple[int, ...]
    pass_seconds: tuple[float, ...]
    """Beside the layers, for so many texts."""
    layer_seconds: tuple[float, ...]

    def seconds(self, rows: int, layers: int) -> float:
        """Seconds of a step of so many texts."""
        more = max(1.0, rows / self.rows[-1])
        whole, layer = (float(np.interp(rows, self.rows, some)) for some in (self.pass_seconds, self.layer_seconds))
        return (whole + layers * layer) * more


def attention_costs(model: MixtralForCausalLM) -> AttentionCosts:
    """Measure recording the attention of a model, once for its device, dtype and shapes."""
    return measured(model, "attention", _attention)


def step_costs(model: MixtralForCausalLM) -> StepCosts:
    """Measure steps of generation, once for the model's device, dtype and shapes."""
    found = calibrate(model)
    if found.layer(1, 1) < _SLOW:
        return measured(model, "generation", _steps)
    layers = tuple(found.layer(rows, 1) for rows in _ROWS)
    return StepCosts(_ROWS, tuple(rows * found.score_seconds for rows in _ROWS), layers)


def _heads(plan: AttentionPlan) -> int:
    return sum(len(heads) for heads in plan.layers.values())


def _attention(twin: Twin) -> AttentionCosts:
    found, heads = calibrate(twin.short), twin.short.config.num_attention_heads
    length = _LENGTH if found.layer(1, _LENGTH) < 0.05 else _SHORTER
    plan = AttentionPlan({0: tuple(range(heads))})
    some, plain = (partial(_record, twin, length, _builder(twin, length, chosen)) for chosen in (plan, None))
    taken = seconds(some, twin.device) - seconds(plain, twin.device)
    held = peak_bytes(some, twin.device) - length * found.row_bytes
    at_once = length**2 * min(heads, SLICE_ELEMENTS // length**2)
    return AttentionCosts(max(0.0, taken) / (heads * length**2), max(0, held) / at_once)


def _builder(twin: Twin, length: int, plan: AttentionPlan | None) -> TraceBuilder:
    config = twin.short.config
    meta = TraceMeta(
        num_layers=1, num_experts=config.num_local_experts, num_experts_per_tok=config.num_experts_per_tok,
        num_heads=config.num_attention_heads,
    )  # fmt: skip
    tokens = pd.DataFrame({"document": np.zeros(length, int), "token_id": np.zeros(length, int)})
    return TraceBuilder(pd.DataFrame({"document": [0], "id": ["random"]}), tokens, meta, attention=plan)


def _record(twin: Twin, length: int, builder: TraceBuilder) -> None:
    record_batch(twin.short, builder, twin.batch(1, length), ()).recorder.finish()


def _steps(twin: Twin) -> StepCosts:
    layers, wholes = [], []
    for rows in _ROWS:
        one, two = (_step_seconds(model, twin, rows) for model in (twin.short, twin.tall))
        layers.append(max(two - one, one / 3))
        wholes.append(max(0.0, one - layers[-1]))
    return StepCosts(_ROWS, tuple(wholes), tuple(layers))


def _step_seconds(model: MixtralForCausalLM, twin: Twin, rows: int) -> float:
    """Seconds of one step: those of a longer continuation less those of a shorter one."""
    short, long = (seconds(partial(_continue, model, twin, rows, steps), twin.device) for steps in (1, 1 + _STEPS))
    return max((long - short) / _STEPS, calibrate(twin.short).layer(rows, 1))


def _continue(model: MixtralForCausalLM, twin: Twin, rows: int, steps: int) -> None:
    ids = twin.batch(rows, 16).ids
    recorder = GenerationRecorder(None, [0] * rows, True, copier_for(twin.device))
    model.generate(
        ids, max_new_tokens=steps, min_new_tokens=steps, attention_mask=torch.ones_like(ids), do_sample=False,
        pad_token_id=0, instruments=[recorder],
    )  # fmt: skip
    recorder.finish()
