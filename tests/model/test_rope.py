"""Rotary tables of every type against transformers, to the bit, at many positions."""

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.mixtral.modeling_mixtral import MixtralRotaryEmbedding

from mixtral_probe import MixtralConfig
from mixtral_probe.model.attention.rope import Rope, rotate
from tests.support.models import different, everything, lowered, ours_like, reference_model, toy_model, unpadded
from tests.support.rope import ROPES, rope_of

SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
LENGTHS = ((0, 1), (0, 16), (0, 17), (0, 64), (0, 65), (0, 300), (5000, 7), (0, 5))  # 16 original, 64 positions in all
IDS = torch.arange(40).reshape(2, 20).mul(7).remainder(50)
EVERYWHERE = torch.ones_like(IDS)
by_name = pytest.mark.parametrize("name", ROPES)


def reference_tables(rope, positions, dtype=torch.float32, **fields):
    """A fresh module each time: what it keeps from a long input would show in the next one."""
    config = transformers.MixtralConfig(**SMALL | fields, rope_parameters=dict(rope))
    return MixtralRotaryEmbedding(config)(torch.zeros(1, dtype=dtype), positions)


def equal(ours, theirs):
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@by_name
@pytest.mark.parametrize("theta", [10000.0, 1e6])
@pytest.mark.parametrize("head_dim", [8, 14])
def test_tables_equal_transformers_to_the_bit(name, theta, head_dim):
    rope = rope_of(name, head_dim, theta)
    ours = Rope(MixtralConfig(**SMALL, head_dim=head_dim, rope_parameters=rope))
    for start, length in LENGTHS:
        positions = torch.arange(start, start + length)[None]
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            expected = reference_tables(rope, positions, dtype, head_dim=head_dim)
            assert equal(ours.tables(positions, dtype), expected), (start, length, dtype)


@by_name
def test_a_missing_head_dim_is_no_trouble(name):
    """transformers 5.23 cannot build dynamic, yarn and longrope without one."""
    positions = torch.arange(100)[None]
    ours = Rope(MixtralConfig(**SMALL, rope_parameters=rope_of(name, 8)))
    assert equal(ours.tables(positions, torch.float32), reference_tables(rope_of(name, 8), positions, head_dim=8))
    if name.startswith(("dynamic", "yarn", "longrope")):
        with pytest.raises((TypeError, StrictDataclassClassValidationError)):
            reference_tables(rope_of(name, 8), positions)


@by_name
def test_a_long_input_leaves_nothing_behind_for_a_short_one(name):
    rope = Rope(MixtralConfig(**SMALL, rope_parameters=rope_of(name, 8)))
    short = torch.arange(64)[None]
    before = rope.tables(short, torch.float32)
    for length in (65, 500, 40, 64):
        rope.tables(torch.arange(length)[None], torch.float32)
        assert equal(rope.tables(short, torch.float32), before)


@by_name
def test_whole_models_equal_transformers_to_the_bit(name):
    """20 positions of a model made for 12, stretched from 5."""
    rope = rope_of(name, 8) | ({"original_max_position_embeddings": 5} if "original" in str(ROPES[name]) else {})
    theirs = reference_model(max_position_embeddings=12, rope_parameters=rope)
    for ids in (IDS, IDS[:, :3]):
        everywhere = torch.ones_like(ids)
        expected = unpadded(everything(theirs, ids, use_cache=False), everywhere)
        assert different(unpadded(everything(ours_like(theirs), ids), everywhere), expected) == []
    plain = everything(toy_model(numerics="reference"), IDS).logits
    if name != "default":
        changed = toy_model(numerics="reference", max_position_embeddings=12, rope_parameters=rope, rope_theta=1e4)
        assert (everything(changed, IDS).logits - plain).abs().max() > 1e-3


@by_name
def test_frequencies_stay_float32_in_low_precision(name):
    rope = rope_of(name, 8)
    theirs = lowered(reference_model(max_position_embeddings=64, rope_parameters=rope), torch.bfloat16)
    far = torch.arange(4000, 4020)[None]
    ours = ours_like(theirs)
    assert ours.model.rope.frequencies(far).dtype is torch.float32
    if name not in ("dynamic", "longrope"):  # there transformers works them out anew, from buffers that were rounded
        expected = everything(theirs, IDS, position_ids=far, use_cache=False)
        found = everything(ours, IDS, position_ids=far)
        assert different(unpadded(found, EVERYWHERE), unpadded(expected, EVERYWHERE)) == []
    tables = toy_model(rope_parameters=rope).model.rope.tables(far, torch.float32)
    cast = toy_model(rope_parameters=rope).bfloat16().model.rope.tables(far, torch.float32)
    assert equal(cast, tables)


def test_what_yarn_and_longrope_multiply_with():
    """0.1 ln 4 + 1 and sqrt(1 + ln 8 / ln 16), by hand."""
    positions = torch.zeros(1, 1, dtype=torch.int64)
    for name, factor in (("yarn", 1.138629), ("longrope", 1.322876)):
        rope = Rope(MixtralConfig(**SMALL, rope_parameters=rope_of(name, 8)))
        cos, sin = rope.tables(positions, torch.float32)
        assert rope.scaling == pytest.approx(factor, abs=1e-6)
        assert torch.allclose(cos, torch.full((1, 1, 8), factor))
        assert sin.abs().max() == 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(ROPES)), st.integers(2, 6), st.floats(2.0, 1e7), st.floats(1.0, 40.0), st.integers(2, 70),
    st.integers(2, 70), st.integers(1, 200),
)  # fmt: skip
def test_any_scaling_equals_transformers(name, pairs, theta, factor, original, most, length):
    rope = rope_of(name, 2 * pairs, theta)
    rope |= {key: value for key, value in {"factor": factor, "original_max_position_embeddings": original}.items()
             if key in rope}  # fmt: skip
    fields = {"head_dim": 2 * pairs, "max_position_embeddings": most}
    positions = torch.arange(length)[None]
    ours = Rope(MixtralConfig(**SMALL | fields, rope_parameters=rope))
    assert equal(ours.tables(positions, torch.float32), reference_tables(rope, positions, **fields))


def test_pairs_turn_by_the_angle_of_their_position():
    """Half-split: (i, i + D/2) is a pair; at position 3 pair 0 turns by 3 radians."""
    rope = Rope(MixtralConfig(**SMALL, rope_theta=100.0))
    x = torch.zeros(1, 1, 4, 8)
    x[..., 1] = 1.0
    turned = rotate(x, rope.tables(torch.arange(4)[None], torch.float32))[0, 0, 3]
    angle = torch.tensor(3 * 100.0 ** (-2 / 8))
    assert torch.allclose(turned[[1, 5]], torch.stack((angle.cos(), angle.sin())), atol=1e-6)
    assert turned[[0, 2, 3, 4, 6, 7]].abs().max() == 0
