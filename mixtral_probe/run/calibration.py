"""What runs of a model cost on its device: measured once on random weights of its shapes, and kept for the process."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.instruments import FORWARD, MemoryMeter, clock_for
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.allocator import keep_freed_memory
from mixtral_probe.run.forward import forward
from mixtral_probe.run.scoring import next_token_scores
from mixtral_probe.run.twin import Twin

T = TypeVar("T")
SECONDS = 0.8
"""The time a calibration may take; what does not fit is computed from what was measured."""
_SHORT = 64
"""Positions of a window whose attention is part of what a row costs."""
_SHAPES = ((1, 1), (1, 16), (1, _SHORT), (8, _SHORT), (32, _SHORT))
"""Rows and positions of the batches that are measured; then one long window."""
_LONG = 1024
_ROWS = 128
"""Of a single product."""
_NOTICED = 0.02
"""Seconds of a call above which what it does beside its layers is not noticed."""
_SIZES = (
    "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_size", "num_local_experts",
    "num_experts_per_tok", "vocab_size", "sliding_window", "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """Seconds and bytes of forward passes on one device."""

    positions: tuple[int, ...]
    """Of the batches of short windows that were measured."""
    layer_seconds: tuple[float, ...]
    """Of one layer, for each."""
    pass_seconds: float
    """Of one forward call whatever its layers."""
    row_seconds: float
    """Of a position in one layer, beyond the largest batch measured."""
    square_seconds: float
    """Of a query and a key of a longer window, in one layer."""
    score_seconds: float
    """Of the loss and the best next token of a position."""
    row_bytes: float
    """Of activations, for each position of a batch, at the peak inside the layers."""
    score_bytes: float
    """Of logits and what is made of them, for each position that is scored at a time."""

    def layer(self, rows: int, length: int) -> float:
        """Seconds of one layer for a batch [rows, length]."""
        count = rows * length
        beyond = max(0, count - self.positions[-1]) * self.row_seconds
        short = float(np.interp(count, self.positions, self.layer_seconds)) + beyond
        return short + self.square_seconds * count * max(0, length - _SHORT)

    def forward(self, shapes: Sequence[tuple[int, int]], layers: float) -> float:
        """Seconds of forward calls with batches of these [rows, length]."""
        return sum(self.pass_seconds + layers * self.layer(*shape) for shape in shapes)


_kept: dict[tuple[Any, ...], Any] = {}
_lock = threading.RLock()


def calibrate(model: MixtralForCausalLM) -> Calibration:
    """Measure what a model's runs cost, once for its device, dtype and shapes."""
    return measured(model, "forward", _calibrate)


def measured(model: MixtralForCausalLM, name: str, measure: Callable[[Twin], T]) -> T:
    """Return what a function measures on a twin of a model, once for the model's device, dtype and shapes."""
    weight, config = model.lm_head.weight, model.config
    sizes = tuple(getattr(config, size) for size in _SIZES)
    how = (model.numerics, model.experts_implementation, torch.get_num_threads())
    key = (name, str(weight.device), weight.dtype, *how, *sizes)
    with _lock:  # of two threads that measure at once each would slow the other
        if key not in _kept:
            keep_freed_memory()
            with torch.inference_mode():
                _kept[key] = measure(Twin.of(model))
        return _kept[key]


def seconds(work: Callable[[], object], device: torch.device, *, at_most: float = 0.05) -> float:
    """Return the median seconds of some work after a first time: of 15 times, or of those that end soon enough."""
    clock = clock_for(device)
    work()
    marks, start = [clock.mark()], time.perf_counter()
    while len(marks) < 2 or (len(marks) < 16 and time.perf_counter() - start < at_most):
        work()
        marks.append(clock.mark())
    return float(np.median(np.diff(clock.seconds(marks))))


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that some work takes at once: on an accelerator as its allocator counts it."""
    allocator = torch.get_device_module(device)
    if device.type != "cpu" and hasattr(allocator, "reset_peak_memory_stats"):
        allocator.reset_peak_memory_stats(device)
        before = allocator.memory_allocated(device)
        work()
        return int(allocator.max_memory_allocated(device) - before)
    meter = MemoryMeter()
    with meter, meter.span(FORWARD):
        work()
    return int(meter.peaks()[0])


def _calibrate(twin: Twin) -> Calibration:
    end = time.perf_counter() + SECONDS
    points, overhead = _points(twin, end)
    positions, layers = tuple(points), tuple(points.values())
    last = layers[-1] / positions[-1]
    row = last if positions[-1] >= 4 * _SHORT else _product_seconds(twin)
    return Calibration(
        positions, layers, overhead, row, _square_seconds(twin, points, row, end), _score_seconds(twin),
        *_bytes(twin, 128 if row < 1e-4 else 8),
    )  # fmt: skip


def _points(twin: Twin, end: float) -> tuple[dict[int, float], float]:
    """Seconds of one layer by positions of the batch, as many as there is time for; and of a call beside its layers."""
    device, found, overhead = twin.device, dict[int, float](), 0.0
    forward(twin.tall, twin.batch(1, 16))
    for rows, length in _SHAPES:
        count, batch = rows * length, twin.batch(rows, length)
        if found and time.perf_counter() + 4 * count * min(taken / n for n, taken in found.items()) > end:
            break
        one = seconds(partial(forward, twin.short, batch), device)
        found[count] = one
        if one < _NOTICED:
            found[count] = max(seconds(partial(forward, twin.tall, batch), device) - one, one / 3)
            overhead = one - found[count] if count == 1 else overhead
    return found, max(0.0, overhead)


def _product_seconds(twin: Twin) -> float:
    """Seconds of a row in one layer by the speed of one product of many rows."""
    config, like = twin.short.config, twin.short.lm_head.weight
    x = torch.ones(_ROWS, config.hidden_size, dtype=like.dtype, device=like.device)
    slab = torch.ones(min(2 * config.intermediate_size, 1024), config.hidden_size, dtype=like.dtype, device=like.device)
    taken = seconds(partial(torch.nn.functional.linear, x, slab), like.device)
    return taken * _active_weights(config) / (_ROWS * slab.numel())


def _square_seconds(twin: Twin, points: dict[int, float], row: float, end: float) -> float:
    """Seconds of a query and a key: from one long window, or where there is no time for it from their operations."""
    config, squares = twin.short.config, _LONG * (_LONG - _SHORT)
    short = float(np.interp(_LONG, list(points), list(points.values()))) + max(0, _LONG - max(points)) * row
    if time.perf_counter() + 3 * short > end:
        return row * config.num_attention_heads * config.head_size / _active_weights(config)
    taken = seconds(partial(forward, twin.short, twin.batch(1, _LONG)), twin.device, at_most=0.05)
    return max(0.0, taken - short) / squares


def _active_weights(config: MixtralConfig) -> int:
    """Weights of one layer that a token is multiplied by."""
    heads = 2 * (config.num_attention_heads + config.num_key_value_heads) * config.head_size
    return config.hidden_size * (heads + config.num_experts_per_tok * 3 * config.intermediate_size)


def _score_seconds(twin: Twin) -> float:
    """Seconds of the loss and the best next token of a position."""
    config, rows = twin.short.config, _ROWS
    rows = rows if config.vocab_size * config.hidden_size < 2**25 else rows // 8
    return seconds(partial(_score, twin, rows), twin.device) / rows


def _score(twin: Twin, rows: int) -> None:
    batch, weight = twin.batch(1, rows), twin.short.lm_head.weight
    hidden = torch.ones(1, rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    next_token_scores(twin.short, hidden, batch.ids, forward(twin.short, twin.batch(1, 1)).context)


def _bytes(twin: Twin, rows: int) -> tuple[float, float]:
    """Bytes of a position inside the layers, by the growth from one batch to another, and while it is scored."""
    some, twice = (
        peak_bytes(partial(forward, twin.short, twin.batch(n, 16)), twin.device) for n in (rows // 8, rows // 4)
    )
    scored = peak_bytes(partial(_score, twin, 16), twin.device)
    return (twice - some) / (rows * 2), scored / 16
