"""Timers, the memory meter, and what they say of a forward pass."""

import json

import numpy as np
import pytest
import torch

from mixtral_probe import InputError, Probe, Result, tables, write_chrome_trace
from mixtral_probe.experiments.span_sums import exclusive_seconds, sums_by_place
from mixtral_probe.instruments import DeviceClock, HostClock, MemoryMeter, NvtxRanges, Timer, clock_for
from mixtral_probe.model import Instrument, Site
from mixtral_probe.run import RunStoppedError
from mixtral_probe.trace import chrome_trace
from tests.support.models import ours_like, reference_model, toy_model

IDS = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(0))
TEXT = "def add(a, b):\n    return a + b\n" * 3


class Ticks:
    """A clock on which every look takes one second, and which others can put forward."""

    name = "ticks"

    def __init__(self) -> None:
        self.now = 0

    def mark(self) -> int:
        self.now += 1
        return self.now

    def seconds(self, marks) -> np.ndarray:
        return np.array(marks, float) - marks[0]


class Slow(Instrument):
    """Takes its time over one expert."""

    def __init__(self, clock: Ticks, layer: int, expert: int) -> None:
        self.clock, self.place = clock, (layer, expert)

    def wants(self, site, layer) -> bool:
        return site is Site.EXPERT_OUTPUT

    def visit(self, site, layer, value, context):
        self.clock.now += 1000 * ((layer, value.expert) == self.place)
        return value


def run(model, *instruments, ids=IDS):
    with torch.inference_mode():
        return model(ids, instruments=instruments, output_router_logits=True)


@pytest.fixture(scope="module")
def probe(toy_path) -> Probe:
    return Probe.from_pretrained(toy_path)


@pytest.fixture(scope="module")
def result(probe) -> Result:
    return probe.time([TEXT, "Once upon a time"], repeats=6, warmup=1)


def test_every_span_has_the_ticks_that_nesting_gives_it():
    model, timer = toy_model(), Timer(Ticks())
    out = run(model, timer)
    _, seconds = timer.times()
    sums = sums_by_place(timer.spans, exclusive_seconds(timer.spans, seconds), model.config, np.add)
    sites = dict(zip((str(s) for s in Site if s in _SITES), sums["site"].T, strict=True))
    used = np.array([len(logits.topk(3).indices.unique()) for logits in out.router_logits])
    # Between the two ends of a span with n spans directly inside, n + 1 ticks belong to none of those.
    assert all(
        (sites[name] == 1).all() for name in ("query", "key", "value", "head_output", "router_logits", "routing")
    )
    assert (sites["attention_output"] == 5).all()
    assert (sites["residual"] == 5).all()
    np.testing.assert_array_equal(sites["moe_output"], 3 + used)
    np.testing.assert_array_equal(sites["expert_output"], used)
    np.testing.assert_array_equal(sums["expert"].sum(1), used)
    assert sums["place"].tolist() == [1, 1, 0]


_SITES = {
    Site.ATTENTION_INPUT, Site.QUERY, Site.KEY, Site.VALUE, Site.HEAD_OUTPUT, Site.ATTENTION_OUTPUT, Site.ROUTER_INPUT,
    Site.ROUTER_LOGITS, Site.ROUTING, Site.EXPERT_OUTPUT, Site.MOE_OUTPUT, Site.RESIDUAL,
}  # fmt: skip


def test_the_time_of_a_slow_expert_is_put_down_to_it_and_to_nobody_else():
    model, clock = toy_model(), Ticks()
    timer = Timer(clock)
    run(model, Slow(clock, 1, 4), timer)
    _, seconds = timer.times()
    sums = sums_by_place(timer.spans, exclusive_seconds(timer.spans, seconds), model.config, np.add)
    slow = np.zeros_like(sums["expert"], bool)
    slow[1, 4] = True
    np.testing.assert_array_equal(sums["expert"] > 500, slow)
    assert (sums["site"] > 500).sum() == 1


def test_expert_rows_are_what_transformers_routes():
    theirs = reference_model()
    timer = Timer(HostClock())
    run(ours_like(theirs), timer)
    with torch.no_grad():
        logits = theirs(IDS, output_router_logits=True).router_logits
    expected = [torch.bincount(layer.topk(3).indices.flatten(), minlength=12).tolist() for layer in logits]
    assert timer.rows(2, 12).tolist() == expected


def test_expert_rows_are_the_routing_counts_of_the_trace(probe):
    trace, result = probe.trace(TEXT), probe.time(TEXT, repeats=1, warmup=0, memory=False)
    counts = [np.bincount(layer.ravel(), minlength=8) for layer in trace.expert_ids]
    np.testing.assert_array_equal(result["expert_rows"], counts)


def test_parts_are_no_more_than_the_whole_in_every_run(result):
    parts = result["site_seconds"].sum((0, 1)) + result["place_seconds"].sum(0)
    assert (parts <= result["seconds_timed"]).all()
    assert (result["site_seconds"] >= 0).all()
    np.testing.assert_allclose(result["site_seconds"].sum(1), result["layer_seconds"], rtol=1e-9)
    experts = result["site_seconds"][:, result.axis("site").index("expert_output")]
    np.testing.assert_allclose(result["expert_seconds"].sum(1), experts, rtol=1e-9)


def test_what_timing_costs_is_measured_with_as_many_runs_without(result):
    assert result["seconds_plain"].shape == result["seconds_timed"].shape == (6,)
    table = tables.timing(result).set_index("metric")
    pairs = result["seconds_timed"] / result["seconds_plain"] - 1
    assert table.loc["instrument_cost", "value"] == pytest.approx(sorted(pairs)[2:4] @ np.array([0.5, 0.5]))
    assert table.loc["instrument_cost", "low"] == pytest.approx(pairs.min())


def test_memory_is_the_bytes_of_the_values(probe):
    result = probe.time(TEXT, repeats=1, warmup=0)
    rows, config = result.meta["timing"]["positions"], probe.model.config
    layers = dict(zip(result.axis("site"), result["site_bytes"].T, strict=True))
    places = dict(zip(result.axis("place"), result["place_bytes"], strict=True))
    assert places["embedding"] == rows * config.hidden_size * 4
    assert places["logits"] == rows * config.vocab_size * 4
    assert (layers["router_logits"] == rows * config.num_local_experts * 4).all()
    assert (layers["value"] == rows * config.num_key_value_heads * config.head_size * 4).all()
    assert (result["site_bytes"].max(1) == layers["residual"]).all()
    assert places["forward"] >= result["site_bytes"].max()


def test_the_meter_counts_what_is_made_and_forgets_what_is_freed():
    weight = torch.ones(1000)
    with torch.inference_mode(), MemoryMeter() as meter:
        with meter.span("outer"):
            kept = weight.view(10, 100) + 1  # 4,000 bytes, a view is none
            with meter.span("inner"):
                gone = kept * 2  # 4,000 more
                del gone
                once_more = kept * 3
            del kept
        with meter.span("after"):
            del once_more
    assert meter.peaks().tolist() == [8000, 4000, 0]


def test_a_device_is_asked_only_when_it_has_reached_the_events(monkeypatch):
    class Device:
        reached = False
        time = 0.0

    class Event:
        def __init__(self, device, enable_timing):
            assert enable_timing

        def record(self, stream):
            Device.time += 2.5
            self.at = Device.time

        def elapsed_time(self, other):
            assert Device.reached, "the events were read before the device was there"
            return other.at - self.at

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: setattr(Device, "reached", True))
    clock = DeviceClock(torch.device("meta"))
    timer = Timer(clock)
    run(toy_model(), timer)
    assert not Device.reached, "the forward pass waited for the device"
    start, seconds = timer.times()
    assert start[0] == 0
    assert seconds.min() == pytest.approx(0.0025)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator here")
def test_an_accelerator_is_timed_by_its_events(toy_path):
    device = torch.accelerator.current_accelerator()
    probe = Probe.from_pretrained(toy_path, device=device)
    result = probe.time(TEXT, repeats=3)
    assert result.meta["timing"]["clock"] == "device events"
    parts = result["site_seconds"].sum((0, 1)) + result["place_seconds"].sum(0)
    assert (parts <= result["seconds_timed"] * 1.001).all()
    assert (result["expert_seconds"][result["expert_rows"] > 0] > 0).all()


def test_a_cpu_has_the_hosts_clock():
    assert isinstance(clock_for(torch.device("cpu")), HostClock)


def test_nvtx_ranges_nest_and_name_what_is_done():
    said = []
    run(toy_model(), NvtxRanges(lambda name: said.append(f"+{name}"), lambda: said.append("-")))
    depth = np.cumsum([1 if word.startswith("+") else -1 for word in said])
    assert depth.min() == depth[-1] == 0
    assert said[:5] == ["+embedding", "-", "+residual layer 0", "+attention_input layer 0", "-"]
    assert any(word.startswith("+expert_output layer 1 expert ") for word in said)


@pytest.mark.skipif(torch.cuda.is_available(), reason="NVTX is there")
def test_nvtx_without_an_nvidia_device_is_refused(probe):
    with pytest.raises(InputError, match="NVTX ranges need a torch built for CUDA and an NVIDIA device"):
        probe.time(TEXT, nvtx=True)


def test_the_chrome_trace_is_json_whose_spans_nest(result, tmp_path):
    made = json.loads(write_chrome_trace(result, tmp_path / "forward.json").read_text())
    assert made == chrome_trace(result)
    events = [event for event in made["traceEvents"] if event["ph"] == "X"]
    assert len(events) == len(result.axis("span"))
    open_until: list[float] = []
    for event in events:  # in the order they begin
        end = event["ts"] + event["dur"]
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 1e-6
        open_until.append(end)
        assert event["dur"] >= 0
    assert {event["name"] for event in events} >= {"forward", "layer 0", "layer 2", "attention_output", "logits"}
    assert all(event["args"]["layer"] in range(3) for event in events if event["name"].startswith("expert "))


def test_a_saved_timing_says_the_same(result, tmp_path):
    result.save(tmp_path / "a.timing")
    loaded = Result.load(tmp_path / "a.timing")
    assert chrome_trace(loaded) == chrome_trace(result)
    assert tables.timing(loaded).equals(tables.timing(result))


def test_runs_are_told_and_can_be_stopped(probe):
    told = []
    probe.time(TEXT, repeats=2, warmup=1, on_run=lambda done, total: told.append((done, total)))
    assert told == [(n, 6) for n in range(1, 7)]
    with pytest.raises(RunStoppedError):
        probe.time(TEXT, should_stop=lambda: True)


@pytest.mark.parametrize("how", [{"repeats": 0}, {"warmup": -1}])
def test_runs_that_cannot_be_counted_are_refused(probe, how):
    with pytest.raises(InputError, match="timing needs repeats >= 1 and warmup >= 0, got repeats="):
        probe.time(TEXT, **how)


def test_edits_are_timed_and_named(probe):
    result = probe.time(TEXT, repeats=1, warmup=0, memory=False, instruments=[Slow(Ticks(), 0, 0)])
    assert [edit["name"] for edit in result.meta["instruments"]] == ["Slow"]
