"""A trace and a result on disk: round trips, damage, newer versions, places that cannot be written."""

import json
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtral_probe.errors import InputError
from mixtral_probe.trace import Result, Trace

TRICKY = ["\ud800", "=HYPERLINK(", "\n", "x" * 10_000, "", '"', "\\ud800", "\x00", "é", "\udfff\ud800"]


def assert_same(a, b):
    pd.testing.assert_frame_equal(a.tokens, b.tokens)
    pd.testing.assert_frame_equal(a.documents, b.documents)
    assert a.meta == b.meta
    for name in ("expert_ids", "expert_weights", "router_logits"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


@st.composite
def traces(draw):
    layers, count, experts = draw(st.integers(1, 3)), draw(st.integers(0, 6)), draw(st.integers(1, 5))
    chosen = draw(st.integers(1, experts))
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    ids = seed.permuted(np.tile(np.arange(experts), (layers, count, 1)), axis=2)[..., :chosen]
    document = np.sort(seed.integers(0, 3, count))
    text = st.text(st.characters(), max_size=8) | st.sampled_from(TRICKY)
    floats = st.floats(width=32, allow_nan=True)
    maybe = st.none() | st.integers(0, 2**31 - 1)

    def column(values):
        return draw(st.none() | st.lists(values, min_size=count, max_size=count))

    labels = [st.none() | text, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.booleans(), st.floats()]
    kinds = draw(st.lists(st.sampled_from(labels), max_size=3))
    records = [{"id": draw(text)} | {f"label{i}": draw(kind) for i, kind in enumerate(kinds)} for _ in range(3)]
    return Trace.from_arrays(
        expert_ids=ids,
        expert_weights=draw(st.sampled_from([None, seed.random(ids.shape)])),
        router_logits=draw(st.sampled_from([None, seed.random((layers, count, experts))])),
        token_ids=seed.integers(0, 99, count),
        document=document,
        num_experts=experts,
        documents=records,
        piece=column(st.none() | text),
        start=column(maybe),
        end=column(maybe),
        nll=column(floats),
        predicted_id=column(maybe),
        special=column(st.booleans()),
        phase=column(st.sampled_from(["prefill", "decode"])),
        meta={"model": {"name": draw(text)}, "dtype": "float32"},
    )


@settings(max_examples=60, deadline=None)
@given(trace=traces())
def test_what_is_saved_is_loaded(trace, tmp_path_factory):
    path = trace.save(tmp_path_factory.mktemp("round") / "a.trace")
    loaded = Trace.load(path)
    assert_same(trace, loaded)
    assert loaded.path == path
    assert "trace" in repr(loaded).encode("utf-8", "replace").decode().lower()


@pytest.fixture
def saved(tmp_path):
    ids = np.array([[[0, 1], [2, 3]]])
    trace = Trace.from_arrays(
        expert_ids=ids, expert_weights=ids / 4, router_logits=np.ones((1, 2, 4)), num_experts=4, piece=TRICKY[:2]
    )
    return trace.save(tmp_path / "a.trace")


def test_loaded_arrays_stay_on_disk_and_read_only(saved):
    trace = Trace.load(saved)
    assert isinstance(trace.router_logits.base.base, np.memmap)
    assert type(trace.router_logits) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        trace.router_logits[0] = 0


def test_tricky_text_survives(tmp_path):
    count = len(TRICKY)
    trace = Trace.from_arrays(
        expert_ids=np.zeros((1, count, 1), int),
        num_experts=1,
        piece=TRICKY,
        document=np.arange(count),
        documents=[{"id": text, "domain": text} for text in TRICKY],
    )
    loaded = Trace.load(trace.save(tmp_path / "a"))
    assert loaded.tokens["piece"].tolist() == TRICKY
    assert loaded.documents["domain"].tolist() == TRICKY
    assert_same(trace, loaded)


@pytest.mark.parametrize(
    "name",
    ["expert_ids.npy", "expert_weights.npy", "router_logits.npy", "tokens.parquet", "documents.parquet"],
)
@pytest.mark.parametrize("damage", ["missing", "cut short", "scrambled"])
def test_a_damaged_file_is_named(saved, name, damage):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut short":
        path.write_bytes(content[:-3])
    if damage == "scrambled":
        path.write_bytes(content[::-1])
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        Trace.load(saved)
    assert "\n" not in str(caught.value)


def test_misshapen_arrays_and_pickles_are_refused(saved):
    def replace(array, **options):
        np.save(saved / "expert_weights.npy", array, **options)
        about = json.loads((saved / "trace.json").read_text())
        about["files"]["expert_weights.npy"] = (saved / "expert_weights.npy").stat().st_size
        (saved / "trace.json").write_text(json.dumps(about))

    replace(np.ones((1, 3, 2), np.float32))
    with pytest.raises(InputError, match=r"expert_weights must have the shape \(1, 2, 2\), got \(1, 3, 2\)"):
        Trace.load(saved)
    replace(np.ones((1, 2, 2), np.float64))
    with pytest.raises(InputError, match="expert_weights must be float32, got float64"):
        Trace.load(saved)
    replace(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"expert_weights\.npy must be a whole \.npy array"):
        Trace.load(saved)


def test_random_damage_is_never_a_traceback(saved):
    random = np.random.default_rng(0)
    files = sorted(saved.iterdir())
    for _ in range(300):
        path = files[random.integers(len(files))]
        content = path.read_bytes()
        broken = bytearray(content)
        broken[random.integers(min(len(content), 128))] = random.integers(256)
        path.write_bytes(broken)
        with suppress(InputError):
            repr(Trace.load(saved))
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "must be at most 1, got 2 in .*; install a newer mixtral-probe"),
        ({"format": "else"}, "must be the description of a mixtral-probe trace"),
        ({"meta": {"num_layers": 0}}, "must describe a trace, got .*: num_layers: Input"),
        ({"files": 3}, "must describe a trace"),
    ],
)
def test_a_wrong_description_is_one_sentence(saved, change, message):
    about = json.loads((saved / "trace.json").read_text()) | change
    (saved / "trace.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=message):
        Trace.load(saved)


def test_what_is_no_trace_is_refused(saved, tmp_path):
    with pytest.raises(InputError, match=r"must be a folder with trace\.json in it"):
        Trace.load(tmp_path / "nothing")
    (saved / "trace.json").write_text("{")
    with pytest.raises(InputError, match=r"trace\.json must be valid JSON, got"):
        Trace.load(saved)


def test_saving_replaces_a_trace_and_nothing_else(saved, tmp_path):
    trace = Trace.load(saved)
    (saved / "stats.safetensors").write_bytes(b"old")
    trace.save(saved)
    assert not (saved / "stats.safetensors").exists()
    assert_same(trace, Trace.load(saved))
    (tmp_path / "empty").mkdir()
    trace.save(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"or one with trace\.json in it, got a folder with other contents"):
        trace.save(tmp_path / "mine")
    with pytest.raises(InputError, match="must be a folder, got a file"):
        trace.save(tmp_path / "mine" / "thesis.txt")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.trace", "empty", "mine"]


def test_an_unwritable_place_is_one_sentence(saved, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file/b\.trace must be writable, got"):
        Trace.load(saved).save(tmp_path / "file" / "b.trace")


def test_a_save_that_fails_leaves_nothing(saved, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr("mixtral_probe.trace.storage.folder.write_description", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        Trace.load(saved).save(tmp_path / "b.trace")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.trace"]


def result():
    return Result(
        "similarity",
        {"cosine": np.arange(8.0).reshape(2, 2, 2), "layers": np.array([True, False]), "total": np.float64(3)},
        {"cosine": ("layer", "expert", "other_expert"), "layers": ("layer",), "total": ()},
        {"expert": ("a", "b\ud800")},
        {"model": {"name": "mini"}},
    )


def test_a_result_is_saved_and_loaded(tmp_path):
    made = result()
    loaded = Result.load(made.save(tmp_path / "r"))
    assert (loaded.kind, loaded.keys, loaded.labels, loaded.meta) == (made.kind, made.keys, made.labels, made.meta)
    assert list(loaded.arrays) == list(made.arrays)
    for name, array in made.arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert loaded.axis("expert") == ("a", "b\ud800")
    assert loaded.axis("layer") == (0, 1)
    assert "cosine: layer 2 × expert 2 × other_expert 2, float64" in repr(loaded)


def test_results_check_their_axes(tmp_path):
    with pytest.raises(InputError, match="has 1 axes, got the names"):
        Result("x", {"a": np.ones(2)}, {"a": ()})
    with pytest.raises(InputError, match=r"keys must name the axes of a, got those of \[\]"):
        Result("x", {"a": np.ones(2)}, {})
    with pytest.raises(InputError, match="axis 'layer' must have one length, got 2 and 3"):
        Result("x", {"a": np.ones(2), "b": np.ones(3)}, {"a": ("layer",), "b": ("layer",)})
    with pytest.raises(InputError, match="axis 'layer' has 2 entries, got 1 labels"):
        Result("x", {"a": np.ones(2)}, {"a": ("layer",)}, {"layer": ("one",)})
    with pytest.raises(InputError, match="must hold numbers or truth values, got"):
        Result("x", {"a": np.array(["text"])}, {"a": ("layer",)})
    with pytest.raises(InputError, match="only what JSON can hold"):
        Result("x", {}, {}, meta={"a": object()})
    with pytest.raises(InputError, match="a result of 'x' has the arrays a, got 'b'"):
        Result("x", {"a": np.float64(1)}, {"a": ()})["b"]
    with pytest.raises(InputError, match="a result of 'x' has the axes none, got 'b'"):
        Result("x", {"a": np.float64(1)}, {"a": ()}).axis("b")


def test_damaged_and_newer_results_are_refused(tmp_path):
    path = result().save(tmp_path / "r")
    about = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(about | {"schema_version": 9}))
    with pytest.raises(InputError, match="schema version 1, got 9"):
        Result.load(path)
    (path / "result.json").write_text(json.dumps(about))
    (path / "arrays.safetensors").write_bytes(b"12345678")
    with pytest.raises(InputError, match="a result must be whole, got"):
        Result.load(path)
    with pytest.raises(InputError, match=r"must be a folder with result\.json in it"):
        Result.load(tmp_path)
