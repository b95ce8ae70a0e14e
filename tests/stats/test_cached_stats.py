"""Statistics beside a trace are used when they are its own, and never otherwise."""

import json
import warnings

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
def test_what_does_not_fit_is_computed_anew_with_a_note(tmp_path, wrong):
    trace = saved_trace(tmp_path / "t", 0)
    if wrong is None:
        RoutingStats.from_trace(trace.select([0]), by="domain").save(tmp_path / "t" / STATS_FILE)
    else:
        (tmp_path / "t" / STATS_FILE).write_bytes(wrong)
    with pytest.warns(UserWarning, match=r"made from the trace, since those beside it cannot be used: .*safetensors"):
        counts = routing_stats(trace).sums.counts.sum((1, 2))
    assert np.array_equal(counts, [np.bincount(trace.expert_ids[layer].ravel(), minlength=4) for layer in range(2)])


def forget(trace, *, trace_too):
    """Take away what versions before this one did not write."""
    RoutingStats.from_trace(trace, by="domain").save(trace.path / STATS_FILE)
    if trace_too:
        description = json.loads((trace.path / "trace.json").read_text())
        del description["content"]
        (trace.path / "trace.json").write_text(json.dumps(description))


@pytest.mark.parametrize("earlier", ["none", "statistics", "both"])
def test_statistics_of_another_model_on_the_same_texts_are_not_used(tmp_path, earlier, monkeypatch):
    mine, other = saved_trace(tmp_path / "mine", 0), saved_trace(tmp_path / "other", 1)
    for trace in (mine, other):
        cache_stats(trace)
        if earlier != "none":
            forget(trace, trace_too=earlier == "both")
    expected, own = RoutingStats.from_trace(mine, by="domain"), (tmp_path / "mine" / STATS_FILE).read_bytes()
    (tmp_path / "mine" / STATS_FILE).write_bytes((tmp_path / "other" / STATS_FILE).read_bytes())
    with pytest.warns(UserWarning, match=r"stats\.safetensors is of another trace"):
        assert np.array_equal(routing_stats(mine).sums.load, expected.sums.load)
    (tmp_path / "mine" / STATS_FILE).write_bytes(own)
    monkeypatch.setattr(RoutingStats, "from_trace", None)
    assert np.array_equal(routing_stats(mine).sums.load, expected.sums.load)


def test_the_same_choices_at_other_weights_are_another_trace(tmp_path):
    """As after training on, or at another temperature of the router."""
    mine = saved_trace(tmp_path / "mine", 0)
    cache_stats(mine)
    warmer = Trace.from_arrays(
        expert_ids=mine.expert_ids, router_logits=mine.router_logits / 2, num_experts=4,
        document=mine.tokens["document"], documents=mine.documents.drop(columns="document").to_dict("records"),
    )  # fmt: skip
    warmer = Trace.load(warmer.save(tmp_path / "warmer"))
    (tmp_path / "warmer" / STATS_FILE).write_bytes((tmp_path / "mine" / STATS_FILE).read_bytes())
    with pytest.warns(UserWarning, match="is of another trace"):
        routing_stats(warmer)


def test_blocks_of_several_documents_are_compared_too(tmp_path):
    random, traces = np.random.default_rng(0), []
    for name in "ab":
        logits = random.standard_normal((2, 400, 4)).astype(np.float32)
        trace = Trace.from_arrays(
            expert_ids=np.argsort(-logits, axis=-1)[..., :2], router_logits=logits, num_experts=4,
            document=np.repeat(np.arange(200), 2), documents=[{"domain": "xy"[i % 2]} for i in range(200)],
        )  # fmt: skip
        traces.append(Trace.load(trace.save(tmp_path / name)))
        forget(traces[-1], trace_too=True)
    stats = RoutingStats.load(tmp_path / "a" / STATS_FILE)
    assert stats.folded
    assert np.array_equal(routing_stats(traces[0]).sums.load, stats.sums.load)
    (tmp_path / "a" / STATS_FILE).write_bytes((tmp_path / "b" / STATS_FILE).read_bytes())
    with pytest.warns(UserWarning, match="is of another trace"):
        assert np.array_equal(routing_stats(traces[0]).sums.load, stats.sums.load)


def test_damage_anywhere_is_recognised(tmp_path):
    trace = saved_trace(tmp_path / "t", 0)
    cache_stats(trace)
    path, expected, random = tmp_path / "t" / STATS_FILE, routing_stats(trace), np.random.default_rng(0)
    content = path.read_bytes()
    for place in random.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[place] ^= 1 << int(random.integers(8))
        path.write_bytes(broken)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = routing_stats(trace)
        assert caught, place
        for name, sums in again.sums.arrays().items():
            np.testing.assert_array_equal(sums, expected.sums.arrays()[name], err_msg=name)


def test_opening_reads_no_array_of_the_trace(tmp_path, monkeypatch):
    """A trace of 10 GB is recognised by what it recorded."""
    trace = saved_trace(tmp_path / "t", 0)
    cache_stats(trace)
    monkeypatch.setattr("mixtral_probe.stats.cached_stats._counts_agree", None)
    object.__setattr__(trace, "expert_ids", None)
    object.__setattr__(trace, "router_logits", None)
    assert routing_stats(trace).groups == ("x", "y")


def test_a_trace_in_memory_has_its_statistics_too():
    trace = Trace.from_arrays(expert_ids=[[[0, 1], [1, 2]]], num_experts=4)
    assert routing_stats(trace).sums.counts.sum() == 4
