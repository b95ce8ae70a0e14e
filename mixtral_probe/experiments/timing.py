"""Where the time and the memory of a forward pass go: by site, layer and expert."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.experiments.span_sums import LAYER_SITES, MODEL_SITES, exclusive_seconds, sums_by_place
from mixtral_probe.instruments import FORWARD, Clock, MemoryMeter, NvtxRanges, Spans, Timer, clock_for
from mixtral_probe.model import Instrument, MixtralForCausalLM, Site
from mixtral_probe.run import Passes, Plan, RunOptions, Subject
from mixtral_probe.run.batch import NO_EXTRA_OUTPUTS, Batch
from mixtral_probe.run.forward import forward
from mixtral_probe.run.passes import model_batches
from mixtral_probe.run.provenance import EXPERTS, run_meta
from mixtral_probe.run.scoring import POSITIONS_AT_ONCE
from mixtral_probe.trace import TimingResult, TraceMeta

OnRun = Callable[[int, int], None]
"""Called after every run with how many are done, and of how many."""


@dataclass(frozen=True)
class Bench:
    """A model and what it is timed on. One run is every batch once."""

    model: MixtralForCausalLM
    batches: Sequence[Batch]
    instruments: Sequence[Instrument]
    clock: Clock

    def check(self) -> None:
        """Run every batch once; raises InputError where the routing is not finite."""
        for batch in self.batches:
            forward(self.model, batch, self.instruments, edited=bool(self.instruments))

    def seconds(self, timers: Sequence[Spans] = ()) -> float:
        """Run every batch once under some timers, and return the seconds."""
        begin = self.clock.mark()
        for batch in self.batches:
            self._forward(batch, timers)
        return float(self.clock.seconds([begin, self.clock.mark()])[1])

    def _forward(self, batch: Batch, timers: Sequence[Spans]) -> None:
        """One call as capture makes it: the head takes some positions at a time, because logits are large."""
        instruments = (*self.instruments, *timers)
        step = max(1, POSITIONS_AT_ONCE // len(batch.ids))
        with ExitStack() as whole:
            for timer in timers:
                whole.enter_context(timer.span(FORWARD))
            out = self.model.model(batch.ids, instruments=instruments, **NO_EXTRA_OUTPUTS)
            for start in range(0, batch.ids.shape[1], step):
                self.model.head(out.last_hidden_state[:, start : start + step], out.context, instruments)


def time_forward(
    subject: Subject,
    planned: Plan,
    options: RunOptions,
    *,
    repeats: int = 9,
    warmup: int = 2,
    memory: bool = True,
    nvtx: bool = False,
    instruments: Sequence[Instrument] = (),
    clock: Clock | None = None,
    on_run: OnRun | None = None,
) -> TimingResult:
    """Run documents through a model again and again, with timers and without; see ``Probe.time``.

    Args:
        clock: by default that of the model's device.

    Raises:
        InputError: the input breaks a rule, or the model lies on several devices.
    """
    _require(subject.model, repeats, warmup)
    batches = list(model_batches(planned, subject.device, options))
    bench = Bench(subject.model, batches, instruments, clock or clock_for(subject.device))
    ranges = [NvtxRanges()] if nvtx else []
    runs = chain(_warm(bench, warmup), _measure(bench, repeats, ranges), _weigh(bench) if memory else ())
    measured = _run_all(runs, warmup + 2 * repeats + memory, options, on_run)
    meta = run_meta(subject, planned.corpus, instruments)
    meta = meta.model_copy(update={"model": meta.model | {EXPERTS: subject.model.experts_used([Spans(int)])}})
    return _result(measured, subject.config, _settings(bench, planned, meta, warmup, nvtx))


def _require(model: MixtralForCausalLM, repeats: int, warmup: int) -> None:
    if repeats < 1 or warmup < 0:
        raise InputError(
            f"timing needs repeats >= 1 and warmup >= 0, got repeats={repeats} and warmup={warmup}; give more"
        )
    if model.model.multi_device:
        raise InputError("timing needs a model on one device, got one on several; open it without device_map")


def _run_all(
    runs: Iterator[tuple[str, Any]], total: int, options: RunOptions, on_run: OnRun | None
) -> list[tuple[str, Any]]:
    """Every run, one step each."""
    passes, measured = Passes(options), list[tuple[str, Any]]()
    for done in range(total):
        with passes.step():
            measured.append(next(runs))
        if on_run is not None:
            on_run(done + 1, total)
    return measured


def _warm(bench: Bench, times: int) -> Iterator[tuple[str, Any]]:
    for number in range(times):
        if not number:
            bench.check()
        yield "warm", bench.seconds()


def _measure(bench: Bench, repeats: int, ranges: Sequence[Spans]) -> Iterator[tuple[str, Any]]:
    """Each repeat with and without timers, in turns which goes first: a machine that slows down slows both alike."""
    for number in range(repeats):
        for timed in (number % 2 == 0, number % 2 == 1):
            if timed:
                timer = Timer(bench.clock)
                yield "timed", (bench.seconds([*ranges, timer]), timer)
            else:
                yield "plain", bench.seconds()


def _weigh(bench: Bench) -> Iterator[tuple[str, Any]]:
    meter = MemoryMeter()
    with meter:
        bench.seconds([meter])
    yield "memory", meter


def _settings(bench: Bench, planned: Plan, meta: TraceMeta, warmup: int, nvtx: bool) -> dict[str, Any]:
    """Meta of the result: that of a trace of this run, and how it was timed."""
    how = {
        "clock": bench.clock.name,
        "warmup": warmup,
        "tokens": len(planned.token_ids),
        "positions": sum(batch.size for batch in bench.batches),
        "batches": len(bench.batches),
        "threads": torch.get_num_threads(),
        "nvtx": nvtx,
    }
    return meta.model_dump(mode="json", exclude={"schema_version", "moe_layers"}) | {"timing": how}


def _result(measured: Sequence[tuple[str, Any]], config: MixtralConfig, meta: dict[str, Any]) -> TimingResult:
    timed = [value for kind, value in measured if kind == "timed"]
    runs = [_sums(timer, config) for _, timer in timed]
    last: Timer = timed[-1][1]
    arrays: dict[str, np.ndarray] = {name: np.stack([run[name] for run in runs], -1) for name in runs[0]}
    arrays["seconds_timed"] = np.array([seconds for seconds, _ in timed])
    arrays["seconds_plain"] = np.array([value for kind, value in measured if kind == "plain"])
    arrays["expert_rows"] = last.rows(config.num_hidden_layers, config.num_local_experts)
    arrays |= _as_arrays(last)
    for meter in (value for kind, value in measured if kind == "memory"):
        sums = sums_by_place(meter.spans, meter.peaks(), config, np.maximum)
        arrays |= {f"{name}_bytes": values for name, values in sums.items()}
    labels = {
        "site": tuple(map(str, LAYER_SITES)),
        "place": tuple(map(str, MODEL_SITES)),
        "span": tuple(span.place for span in last.spans),
    }
    return TimingResult.of(arrays, labels, meta)


def _as_arrays(timer: Timer) -> dict[str, np.ndarray]:
    """Every span of a run."""
    start, seconds = timer.times()
    numbers = {name: np.array([getattr(span, name) for span in timer.spans]) for name in ("layer", "expert", "parent")}
    return {f"span_{name}": values for name, values in {"start": start, "seconds": seconds, **numbers}.items()}


def _sums(timer: Timer, config: MixtralConfig) -> dict[str, np.ndarray]:
    """The exclusive seconds of one run by place, and the whole of every layer."""
    _, seconds = timer.times()
    whole = sums_by_place(timer.spans, seconds, config, np.add)["site"]
    parts = sums_by_place(timer.spans, exclusive_seconds(timer.spans, seconds), config, np.add)
    return {f"{name}_seconds": values for name, values in parts.items()} | {
        "layer_seconds": whole[:, LAYER_SITES.index(Site.RESIDUAL)]
    }
