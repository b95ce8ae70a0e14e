"""TraceBuilder and recorded attention: disk equals memory, resuming, full disks, the safetensors file."""

import errno
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from mixtral_probe.errors import InputError
from mixtral_probe.trace import (
    AttentionPlan,
    Trace,
    TraceBuilder,
    TraceMeta,
    estimate_bytes,
    pack_triangle,
    unpack_triangle,
    windows_of,
)

DOCUMENTS = pd.DataFrame({"id": ["a", "b", "c"], "domain": ["code", "prose", "code"]})
TOKENS = pd.DataFrame({"document": [0, 0, 0, 1, 1, 2], "chunk": [0, 0, 1, 0, 0, 0], "token_id": [5, 6, 7, 8, 9, 5]})
META = TraceMeta(num_layers=2, num_experts=4, num_experts_per_tok=2, num_heads=3, model={"name": "m"}, created="now")
PLAN = AttentionPlan({1: (2, 0)})


def build(path=None, **options):
    return TraceBuilder(DOCUMENTS, TOKENS, META, path, **({"attention": PLAN} | options))


def run(builder, documents):
    """Fill rows from the token ids alone, so that any two runs agree."""
    for document in documents:
        rows = np.flatnonzero(TOKENS["document"] == document)
        ids = TOKENS["token_id"].to_numpy()[rows]
        logits = np.cos(np.outer(ids, np.arange(4))) + np.arange(2)[:, None, None]  # L, rows, E
        if builder.router_logits is not None:
            builder.router_logits[:, rows] = logits
        builder.expert_ids[:, rows] = np.argsort(-logits, axis=-1)[..., :2]
        builder.expert_weights[:, rows] = 0.5
        builder.nll[rows[1:]] = ids[1:] / 4
        builder.predicted_id[rows] = ids + 1
        fill_attention(builder, document)
        builder.mark_done([document])


def fill_attention(builder, document):
    if builder.attention_sums is None:
        return
    for number, chunk, length in windows_of(builder.tokens):
        if number == document:
            if builder._plan.attention.maps:
                builder.attention_block(document, chunk, 1)[...] = pack_triangle(maps(document, chunk, length))
            builder.attention_sums["tokens"][1, document] += length
            builder.attention_sums["sink"][1, document, [0, 2]] += 0.25 * length


def maps(document, chunk, length):
    return np.tril(np.random.default_rng([document, chunk]).random((2, length, length))).astype(np.float16)


def assert_same(a, b):
    pd.testing.assert_frame_equal(a.tokens, b.tokens)
    pd.testing.assert_frame_equal(a.documents, b.documents)
    assert a.meta == b.meta
    for name in ("expert_ids", "expert_weights", "router_logits"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name, sums in a.attention_sums.items():
        np.testing.assert_array_equal(sums, b.attention_sums[name])
    for document, chunk, _ in windows_of(a.tokens):
        left, right = (trace.attention(document, 1, chunk=chunk) for trace in (a, b))
        np.testing.assert_array_equal(left, right)


def finished(path=None, **options):
    builder = build(path, **options)
    run(builder, builder.pending)
    return builder.finish()


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
    with pytest.raises(InputError, match="but 2 are still to run"):
        builder.finish()
    assert builder.pending == [1, 2]


def test_finish_checks_what_was_filled(tmp_path):
    builder = build()
    run(builder, builder.pending)
    builder.expert_ids[0, 0] = 9
    with pytest.raises(InputError, match="expert 9 was chosen in layer 0"):
        builder.finish()


def test_a_finished_trace_is_replaced_and_other_things_are_refused(tmp_path):
    assert_same(finished(tmp_path / "a.trace"), finished(tmp_path / "a.trace"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(InputError, match="is a folder with other things in it"):
        build(tmp_path / "mine")
    (tmp_path / "b.partial").mkdir()
    with pytest.raises(InputError, match=r"b\.partial is in the way"):
        build(tmp_path / "b")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"b\.partial must be writable, but"):
        build(tmp_path / "file" / "b")


def test_a_full_disk_shows_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("mixtral_probe.trace.disk.free_bytes", lambda path: 100)
    with pytest.raises(InputError, match=r"needs .* GB, but only 1e-07 GB are free: write elsewhere"):
        build(tmp_path / "a.trace")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_space_is_reserved_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"needs .* GB, but only .* GB are free"):
        build(tmp_path / "a.trace")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"attention": None}, {"record_logits": False}])
def test_without_logits_or_attention(tmp_path, options):
    trace = finished(tmp_path / "a.trace", **options)
    assert (trace.router_logits is None) == ("record_logits" in options)
    assert (trace.attention_sums is None) == ("attention" in options)


def test_the_attention_file_is_valid_from_the_start(tmp_path):
    build(tmp_path / "a.trace")
    with safe_open(tmp_path / "a.trace.partial" / "attention.safetensors", "numpy") as file:
        assert file.get_tensor("map.0.0.1").shape == (2, 3)
        assert file.metadata()["format"] == "mixtral-probe attention"
    trace = finished(tmp_path / "a.trace")
    held = load_file(tmp_path / "a.trace" / "attention.safetensors")
    assert set(held) == {"sums.tokens", "sums.entropy_bits", "sums.distance", "sums.sink"} | {
        "map.0.0.1", "map.0.1.1", "map.1.0.1", "map.2.0.1",
    }  # fmt: skip
    np.testing.assert_array_equal(held["map.1.0.1"], pack_triangle(maps(1, 0, 2)))
    np.testing.assert_array_equal(held["sums.sink"], trace.attention_sums["sink"])


def test_attention_sums_start_at_zero_where_planned(tmp_path):
    sums = build(tmp_path / "a.trace").attention_sums
    for name in ("entropy_bits", "distance", "sink"):
        assert np.isnan(sums[name][0]).all()
        assert np.isnan(sums[name][1, :, 1]).all()
        assert (sums[name][1][:, [0, 2]] == 0).all()
    trace = finished()
    assert trace.attention_sums["tokens"].tolist() == [[0, 0, 0], [3, 2, 1]]
    assert trace.attention_sums["sink"][1, :, 0].tolist() == [0.75, 0.5, 0.25]
    with pytest.raises(ValueError, match="read-only"):
        trace.attention_sums["sink"][0] = 1


def test_attention_is_read_by_the_models_head_numbers():
    trace = finished()
    assert trace.attention_layers == (1,)
    assert trace.attention_heads(1) == (0, 2)
    assert trace.attention_heads(0) == ()
    np.testing.assert_array_equal(trace.attention(1, 1), maps(1, 0, 2))
    np.testing.assert_array_equal(trace.attention(document=1, layer=1, head=2), maps(1, 0, 2)[1])
    assert trace.attention(0, 1, chunk=1).shape == (2, 1, 1)
    with pytest.raises(InputError, match="attention of layer 0 was asked for, but the trace holds it for layers: 1"):
        trace.attention(1, 0)
    with pytest.raises(InputError, match=r"head 1 of layer 1 was asked for, but the trace holds heads \[0, 2\]"):
        trace.attention(1, 1, head=1)
    with pytest.raises(InputError, match="attention of document 1, chunk 1 was asked for, but there is none"):
        trace.attention(1, 1, chunk=1)
    with pytest.raises(InputError, match="document 3 was asked for"):
        trace.attention(3, 1)


def test_attention_that_was_not_recorded_is_refused():
    with pytest.raises(InputError, match="this trace holds no attention"):
        finished(attention=None).attention(0, 1)
    with pytest.raises(InputError, match="only with an AttentionPlan"):
        build(attention=None).attention_block(0, 0, 1)
    trace = finished(attention=AttentionPlan({1: (0, 2)}, maps=False))
    assert trace.attention_sums["tokens"][1].tolist() == [3, 2, 1]
    with pytest.raises(InputError, match="only sums of the attention were kept"):
        trace.attention(0, 1)


def test_selected_documents_take_their_attention_along(tmp_path):
    trace = finished(tmp_path / "a.trace").select([1, 0])
    np.testing.assert_array_equal(trace.attention(0, 1), maps(1, 0, 2))
    np.testing.assert_array_equal(trace.attention(1, 1, chunk=1), maps(0, 1, 1))
    assert trace.attention_sums["tokens"][1].tolist() == [2, 3]
    assert_same(trace, Trace.load(trace.save(tmp_path / "b.trace")))


def test_a_damaged_attention_file_is_named(tmp_path):
    path = finished(tmp_path / "a.trace").path / "attention.safetensors"
    content = path.read_bytes()
    for broken in (content[:8] + b"?" + content[9:], b"\xff" * 8 + content[8:], content.replace(b"plan", b"plum")):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"attention\.safetensors must"):
            Trace.load(tmp_path / "a.trace")
    path.write_bytes(content.replace(b"map.1.0.1", b"map.1.9.1"))
    with pytest.raises(InputError, match=r"demands map\.1\.0\.1, but the recorded attention lacks it"):
        Trace.load(tmp_path / "a.trace")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({40: (0,)}, r"layer 40 was asked for, but there are 2 layers \(0–1\)"),
        ({0: (3,)}, r"head 3 was asked for, but there are 3 heads \(0–2\)"),
        ({0: ()}, "must differ and be at least one, but layer 0 has"),
        ({0: (1, 1)}, "must differ and be at least one"),
    ],
)
def test_plans_are_checked(layers, message):
    with pytest.raises(InputError, match=message):
        build(attention=AttentionPlan(layers))


def test_attention_needs_the_number_of_heads():
    with pytest.raises(InputError, match="num_heads=None"):
        TraceBuilder(DOCUMENTS, TOKENS, META.model_copy(update={"num_heads": None}), attention=PLAN)


@given(st.integers(1, 3), st.integers(0, 40))
def test_packing_is_the_lower_triangle_row_by_row(heads, size):
    full = np.random.default_rng(size).random((heads, size, size)).astype(np.float16)
    packed = pack_triangle(full)
    rows, columns = np.tril_indices(size)
    np.testing.assert_array_equal(packed, full[:, rows, columns])
    np.testing.assert_array_equal(unpack_triangle(packed), np.tril(full))


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
