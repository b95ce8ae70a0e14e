"""TraceBuilder: disk equals memory, resuming, full disks, the estimate."""

import errno
import os

import numpy as np
import pandas as pd
import pytest

from mixtral_probe.errors import InputError
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, estimate_bytes, windows_of
from tests.support.trace_runs import DOCUMENTS, META, PLAN, TOKENS, assert_same, build, finished, run


def test_on_disk_equals_in_memory(tmp_path):
    memory, disk = finished(), finished(tmp_path / "a.trace")
    assert_same(memory, disk)
    assert_same(memory, Trace.load(tmp_path / "a.trace"))
    assert disk.path == tmp_path / "a.trace"
    assert disk.tokens["nll"].isna().tolist() == [True, False, False, True, False, True]
    assert disk.tokens["predicted_id"].tolist() == [6, 7, 8, 9, 10, 6]
    names = {"trace.json", "tokens.parquet", "documents.parquet", "router_logits.npy", "expert_ids.npy"}
    assert {e.name for e in disk.path.iterdir()} == names | {"expert_weights.npy", "attention.safetensors"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.trace"]


def test_saving_a_built_trace_keeps_its_attention(tmp_path):
    memory = finished()
    assert_same(memory, Trace.load(memory.save(tmp_path / "b.trace")))


def test_a_run_that_broke_off_continues(tmp_path):
    path = tmp_path / "a.trace"

    def break_off():
        builder = build(path)
        run(builder, [1])
        builder.attention_sums["sink"][1, 0, 0] += 99  # a document that was under way when it broke
        builder.nll[0] = 99
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        break_off()
    assert not path.exists()
    with pytest.raises(InputError, match=r"must be a folder with trace\.json"):
        Trace.load(path)
    again = TraceBuilder(DOCUMENTS, TOKENS, META.model_copy(update={"created": "later"}), path, attention=PLAN)
    assert again.pending == [0, 2]
    run(again, again.pending)
    trace = again.finish()
    assert_same(trace, finished())
    assert trace.meta.created == "now"


def test_another_run_is_not_continued(tmp_path):
    path = tmp_path / "a.trace"
    build(path)
    for change in ({"attention": None}, {"record_logits": False}):
        with pytest.raises(InputError, match=r"a\.trace\.partial holds an unfinished run with another model"):
            build(path, **change)
    with pytest.raises(InputError, match="delete the folder, or write elsewhere"):
        TraceBuilder(DOCUMENTS, TOKENS.assign(token_id=1), META, path, attention=PLAN)


def test_a_run_that_broke_off_before_it_began_starts_anew(tmp_path):
    path = tmp_path / "a.trace"
    build(path)
    (tmp_path / "a.trace.partial" / "run" / "plan.json").unlink()
    assert build(path, record_logits=False).pending == [0, 1, 2]


def test_a_damaged_unfinished_run_is_named(tmp_path):
    path = tmp_path / "a.trace"
    build(path)
    array = tmp_path / "a.trace.partial" / "router_logits.npy"
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"router_logits\.npy must be a whole \.npy array"):
        build(path)
    np.save(array, np.zeros(3, np.float32))
    with pytest.raises(InputError, match=r"router_logits\.npy must hold <f4 of the shape \(2, 6, 4\)"):
        build(path)


def test_finish_wants_every_document(tmp_path):
    builder = build(tmp_path / "a.trace")
    run(builder, [0])
    with pytest.raises(InputError, match="every document filled, got 2 that are not"):
        builder.finish()
    assert builder.pending == [1, 2]


def test_finish_checks_what_was_filled(tmp_path):
    builder = build()
    run(builder, builder.pending)
    builder.expert_ids[0, 0] = 9
    with pytest.raises(InputError, match=r"expert ids must be in 0–3 \(−1 = none\), got 9 in layer 0"):
        builder.finish()


def test_a_finished_trace_is_replaced_and_other_things_are_refused(tmp_path):
    assert_same(finished(tmp_path / "a.trace"), finished(tmp_path / "a.trace"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(InputError, match="got a folder with other contents"):
        build(tmp_path / "mine")
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "x").touch()
    with pytest.raises(InputError, match=r"b\.partial is in the way"):
        build(tmp_path / "b")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"b must be writable, got 'not a directory'"):
        build(tmp_path / "file" / "b")


def test_a_full_disk_shows_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("mixtral_probe.files.free_bytes", lambda path: 100)
    with pytest.raises(InputError, match=r"needs .* GB of free disk space, got 1e-07 GB; name another place"):
        build(tmp_path / "a.trace")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_space_is_reserved_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"needs .* GB of free disk space, got .* GB"):
        build(tmp_path / "a.trace")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"attention": None}, {"record_logits": False}])
def test_without_logits_or_attention(tmp_path, options):
    trace = finished(tmp_path / "a.trace", **options)
    assert (trace.router_logits is None) == ("record_logits" in options)
    assert (trace.attention_sums is None) == ("attention" in options)


@pytest.mark.parametrize("plan", [None, PLAN, AttentionPlan({0: (0, 1, 2), 1: (1,)}, maps=False)])
def test_the_estimate_holds_all_arrays_exactly(tmp_path, plan):
    path = finished_size(tmp_path, plan)
    arrays = sum(e.stat().st_size for e in path.iterdir() if e.suffix in (".npy", ".safetensors"))
    npy_headers = 3 * 128
    estimate = estimate_bytes(META, windows_of(build().tokens), attention=plan)
    assert estimate == arrays - npy_headers + 32 * len(TOKENS)


def finished_size(tmp_path, plan):
    builder = build(tmp_path / "a.trace", attention=plan)
    builder.expert_ids[...] = [0, 1]
    builder.mark_done([0, 1, 2])
    return builder.finish().path


def test_the_estimate_takes_lengths_too():
    routing_bytes = 2 * 30 * (2 * 2 + 2 * 4 + 4 * 4)  # L × T × (ids + weights + logits)
    assert estimate_bytes(META, [10, 20]) == routing_bytes + 32 * 30
    assert estimate_bytes(META, [10, 20], record_logits=False) == 2 * 30 * (2 * 2 + 2 * 4) + 32 * 30


def test_a_run_without_tokens(tmp_path):
    tokens = pd.DataFrame({"document": np.zeros(0, int), "token_id": np.zeros(0, int)})
    builder = TraceBuilder(DOCUMENTS, tokens, META, tmp_path / "a", attention=PLAN)
    builder.mark_done([0, 1, 2])
    assert len(builder.finish()) == 0
