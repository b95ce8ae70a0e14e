"""Recorded attention: packing, the safetensors file, reading by head, what was not recorded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from mixtral_probe.errors import InputError
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, pack_triangle, unpack_triangle
from tests.support.trace_runs import DOCUMENTS, META, PLAN, TOKENS, assert_same, build, finished, maps


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
    with pytest.raises(InputError, match=r"layer must be one whose attention was recorded \(1\), got 0"):
        trace.attention(1, 0)
    with pytest.raises(InputError, match=r"head must be one of \[0, 2\], those recorded in layer 1, got 1"):
        trace.attention(1, 1, head=1)
    with pytest.raises(InputError, match="the window must be recorded, got document 1, chunk 1"):
        trace.attention(1, 1, chunk=1)
    with pytest.raises(InputError, match="document must be in 0–2, got 3"):
        trace.attention(3, 1)


def test_attention_that_was_not_recorded_is_refused():
    with pytest.raises(InputError, match="a trace needs recorded attention, got none"):
        finished(attention=None).attention(0, 1)
    with pytest.raises(InputError, match="needs an AttentionPlan, got none"):
        build(attention=None).attention_block(0, 0, 1)
    trace = finished(attention=AttentionPlan({1: (0, 2)}, maps=False))
    assert trace.attention_sums["tokens"][1].tolist() == [3, 2, 1]
    with pytest.raises(InputError, match="recorded maps of the attention, got sums alone"):
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
    with pytest.raises(InputError, match=r"must hold map\.1\.0\.1 by its plan, got none"):
        Trace.load(tmp_path / "a.trace")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({40: (0,)}, r"layer must be in 0–1, got 40"),
        ({0: (3,)}, r"head must be in 0–2, got 3"),
        ({0: ()}, r"heads with different numbers, got \(\) for layer 0"),
        ({0: (1, 1)}, r"heads with different numbers, got \(1, 1\) for layer 0"),
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
