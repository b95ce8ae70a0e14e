"""Statistics beside a trace are used when they are its own, and never otherwise."""

import numpy as np
import pytest

from mixtral_probe import RoutingStats, Trace
from mixtral_probe.stats import STATS_FILE, cache_stats, routing_stats


def saved_trace(folder, seed: int) -> Trace:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((2, 30, 4)).astype(np.float32)
    documents = [{"id": "a", "domain": "x"}, {"id": "b", "domain": "y"}]
    trace = Trace.from_arrays(
        expert_ids=np.argsort(-logits, axis=-1)[..., :2], router_logits=logits, document=[0] * 12 + [1] * 18,
        num_experts=4, documents=documents,
    )  # fmt: skip
    trace.save(folder)
    return Trace.load(folder)


def test_what_is_saved_is_read(tmp_path, monkeypatch):
    trace = saved_trace(tmp_path / "t", 0)
    cache_stats(trace)
    computed = RoutingStats.from_trace(trace, by="domain")
    monkeypatch.setattr(RoutingStats, "from_trace", None)
    read = routing_stats(trace)
    assert read.groups == ("x", "y")
    assert np.array_equal(read.sums.load, computed.sums.load)


@pytest.mark.parametrize("wrong", [b"", b"no statistics", None])
def test_what_does_not_fit_is_computed_anew(tmp_path, wrong):
    trace = saved_trace(tmp_path / "t", 0)
    if wrong is None:
        RoutingStats.from_trace(trace.select([0]), by="domain").save(tmp_path / "t" / STATS_FILE)
    else:
        (tmp_path / "t" / STATS_FILE).write_bytes(wrong)
    counts = routing_stats(trace).sums.counts.sum((1, 2))
    assert np.array_equal(counts, [np.bincount(trace.expert_ids[layer].ravel(), minlength=4) for layer in range(2)])


def test_a_trace_in_memory_has_its_statistics_too():
    trace = Trace.from_arrays(expert_ids=[[[0, 1], [1, 2]]], num_experts=4)
    assert routing_stats(trace).sums.counts.sum() == 4
