import json

import pytest
import torch
import transformers
from transformers.activations import ACT2FN
from transformers.models.mixtral.modeling_mixtral import MixtralRotaryEmbedding

from mixtral_probe import InputError, MixtralConfig
from mixtral_probe.config import ACTIVATIONS, ROPE_TYPES
from mixtral_probe.model.activations import ACTIVATION
from mixtral_probe.model.attention.rope import Rope
from tests.support.rope import ROPES, rope_of

MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
NOT_MIXTRAL = {"transformers_version", "chunk_size_feed_forward", "is_encoder_decoder", "_name_or_path"}
"""What transformers' base class adds to the config of any model."""
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}


def test_published_parameter_counts():
    """Sizes of the published checkpoints; "Mixtral of Experts" gives 47B and 13B."""
    assert MixtralConfig(**MIXTRAL_8X7B).num_parameters() == 46_702_792_704
    assert round(MixtralConfig(**MIXTRAL_8X7B).num_active_parameters() / 1e9, 1) == 12.9
    large = {"hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56, "num_attention_heads": 48}
    assert MixtralConfig(**MIXTRAL_8X7B | large).num_parameters() == 140_620_634_112


def test_parameters_of_each_part_of_mixtral_8x7b_by_hand():
    config = MixtralConfig(**MIXTRAL_8X7B)
    parts = config.parameters_by_part()
    assert parts == {
        "embedding": 131_072_000,  # 32,000 · 4,096
        "attention": 1_342_177_280,  # 32 · (q and o 4,096² each, k and v 4,096 · 1,024 each)
        "routers": 1_048_576,  # 32 · 8 · 4,096
        "experts": 45_097_156_608,  # 32 · 8 · 3 · 4,096 · 14,336
        "norms": 266_240,  # 65 · 4,096
        "head": 131_072_000,
    }
    assert sum(parts.values()) == 46_702_792_704
    # Two of eight experts: three quarters of 45,097,156,608 stay idle.
    assert config.num_active_parameters() == 46_702_792_704 - 33_822_867_456
    assert config.replace(tie_word_embeddings=True).parameters_by_part() == parts | {"head": 0}


def test_defaults_are_those_of_transformers_field_by_field():
    ours, theirs = MixtralConfig(), transformers.MixtralConfig()
    fields = theirs.to_dict().keys() - NOT_MIXTRAL | {"num_labels"}
    assert {name: getattr(ours, name) for name in fields} == {name: getattr(theirs, name) for name in fields}
    written = theirs.to_diff_dict()
    assert {name: ours.to_dict().get(name) for name in written if name not in NOT_MIXTRAL} == {
        name: value for name, value in written.items() if name not in NOT_MIXTRAL
    }


def test_derived_fields():
    assert (MixtralConfig().head_dim, MixtralConfig().head_size) == (None, 128)
    config = MixtralConfig(num_key_value_heads=None, head_dim=None, hidden_size=64, num_attention_heads=4)
    assert (config.head_size, config.num_key_value_heads) == (16, 4)
    assert MixtralConfig(head_dim=64).head_size == 64
    assert MixtralConfig(num_experts=16).num_local_experts == 16
    assert MixtralConfig(dtype=torch.float16).dtype == MixtralConfig(torch_dtype="float16").dtype == "float16"


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 500.0},
        {"rope_theta": 500.0, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_theta": 500.0, "rope_parameters": {"rope_theta": 500.0}},
        {"rope_theta": 500, "rope_scaling": {"type": "default"}},
        {"rope_theta": 500.0, "rope_parameters": {"rope_type": None, "rope_theta": None, "factor": None}},
    ],
)
def test_every_spelling_of_rope_is_read_and_both_are_written(fields):
    config = MixtralConfig(**fields)
    written = config.to_dict()
    assert config.rope_theta == written["rope_theta"] == 500.0
    assert written["rope_parameters"] == {"rope_theta": 500.0, "rope_type": "default"}
    assert written["rope_scaling"] is None
    assert MixtralConfig(**written).to_dict() == written


@pytest.mark.parametrize("name", ROPES)
def test_both_spellings_of_every_scaled_rope_say_the_same(name):
    rope = rope_of(name, head_size=8)
    newer = MixtralConfig(**SMALL, rope_parameters=rope)
    older = {key: value for key, value in rope.items() if key not in ("rope_theta", "rope_type")}
    older |= {"type": rope["rope_type"]}
    assert MixtralConfig(**SMALL, rope_theta=rope["rope_theta"], rope_scaling=older) == newer
    assert MixtralConfig(**SMALL, rope_theta=rope["rope_theta"], rope_parameters=older) == newer
    assert newer.rope_theta == rope["rope_theta"]
    assert (newer.rope_scaling or {"rope_type": "default"})["rope_type"] == rope["rope_type"]
    again = MixtralConfig(**json.loads(json.dumps(newer.to_dict())))
    assert again.to_dict() == newer.to_dict()
    assert again.rope_parameters.items() >= newer.rope_parameters.items()


@pytest.mark.parametrize("head_dim", [None, 6])
@pytest.mark.parametrize("name", ROPES)
def test_written_configs_give_transformers_the_same_rotary_tables(tmp_path, name, head_dim):
    config = MixtralConfig(**SMALL, head_dim=head_dim, rope_parameters=rope_of(name, head_dim or 8))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    theirs, positions = transformers.MixtralConfig.from_pretrained(tmp_path), torch.arange(200)[None]
    expected = MixtralRotaryEmbedding(theirs)(torch.zeros(1), positions)
    assert all(torch.equal(*pair) for pair in zip(Rope(config).tables(positions, torch.float32), expected, strict=True))
    assert theirs.rope_parameters["rope_type"] == config.rope_parameters["rope_type"]


def test_every_rope_type_has_a_case_here():
    assert {rope_of(name, 8)["rope_type"] for name in ROPES} == set(ROPE_TYPES)


def test_what_rope_parameters_leave_open_is_filled_in():
    for kind in ("yarn", "longrope", "llama3"):
        rope = rope_of(kind, 8)
        del rope["original_max_position_embeddings"]
        assert MixtralConfig(**SMALL, rope_parameters=rope).rope_parameters["original_max_position_embeddings"] == 64
    config = MixtralConfig(**SMALL, original_max_position_embeddings=16, rope_scaling={"type": "yarn", "factor": None})
    assert config.rope_parameters["factor"] == 4.0
    assert config.rope_parameters["original_max_position_embeddings"] == 16


def test_unknown_keys_are_kept(tmp_path):
    fields = MIXTRAL_8X7B | {"my_note": {"a": [1]}, "original_max_position_embeddings": 7}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    written = MixtralConfig.from_pretrained(tmp_path).to_dict()
    assert {key: written[key] for key in fields} == fields
    rope = {"rope_type": "linear", "factor": 2.0, "my_note": "x"}
    assert MixtralConfig(rope_parameters=rope).to_dict()["rope_parameters"]["my_note"] == "x"


def test_end_tokens_may_be_several():
    assert MixtralConfig(eos_token_id=[2, 5]).eos_token_id == [2, 5]


def test_labels_in_every_spelling():
    names = {0: "code", 1: "law", 2: "prose"}
    config = MixtralConfig(id2label={str(key): name for key, name in names.items()})
    assert (config.num_labels, config.id2label) == (3, names)
    assert config.label2id == {"code": 0, "law": 1, "prose": 2}
    assert MixtralConfig(**json.loads(json.dumps(config.to_dict()))).id2label == names
    assert MixtralConfig(num_labels=1).id2label == {0: "LABEL_0"}
    assert "id2label" not in MixtralConfig(num_labels=2).to_dict()


def test_a_changed_copy_is_checked_anew():
    config = MixtralConfig(**SMALL, rope_parameters=rope_of("llama3", 8))
    assert config.replace(vocab_size=9).vocab_size == 9
    assert config.replace(rope_theta=5.0).rope_parameters == config.rope_parameters | {"rope_theta": 5.0}
    plain = config.replace(rope_parameters={"rope_type": "linear", "factor": 2.0})
    assert plain.rope_scaling == {"rope_type": "linear", "factor": 2.0}
    assert plain.rope_theta == config.rope_theta
    assert config.replace(num_labels=5).num_labels == 5
    with pytest.raises(InputError, match="vocab_size must be positive"):
        config.replace(vocab_size=0)


def test_activations_are_those_of_transformers_to_the_bit():
    assert tuple(ACTIVATION) == ACTIVATIONS
    x = torch.linspace(-9, 9, 999)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for name, function in ACTIVATION.items():
            assert torch.equal(function(x.to(dtype)), ACT2FN[name](x.to(dtype))), (name, dtype)


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
LLAMA = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "spiral"}, "rope_type must be one of default, linear, .*, got 'spiral'"),
        ({"rope_type": ["yarn"]}, r"rope_type must be one of .*, got \['yarn'\]"),
        ({"rope_type": "linear"}, "rope_parameters of type 'linear' must have factor, got {'rope_type'"),
        ({"rope_type": "dynamic", "factor": 0.5}, "factor of the rope must be a number of at least 1, got 0.5"),
        ({"rope_type": "linear", "factor": "2"}, "factor of the rope must be a number of at least 1, got '2'"),
        ({"rope_type": "linear", "factor": True}, "factor of the rope must be a number of at least 1, got True"),
        ({"rope_theta": 0}, "rope_theta must be positive, got 0"),
        ({"rope_theta": "big"}, "rope_theta must be positive, got 'big'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1, since Mixtral .*, got 0.5"),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}, "rope_theta must be above 1 for .* 'yarn', got"),
        (
            {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 2},
            r"beta_fast .* beta_slow \(2\), got 1",
        ),
        ({"rope_type": "yarn", "factor": 2.0, "mscale": -1}, "mscale of the rope must not be negative, got -1"),
        (
            {"rope_type": "yarn", "factor": 2.0, "attention_factor": 0},
            "attention_factor .* positive number, got 0",
        ),
        (
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0},
            "must be a positive integer, .* 0",
        ),
        (LONG | {"short_factor": [1.0]}, "short_factor must have head_dim / 2 = 64 numbers, got 1"),
        (LONG | {"long_factor": [0.0] * 64}, r"long_factor must be a list of positive numbers, got \[0.0"),
        (LONG | {"long_factor": 2.0}, "long_factor must be a list of positive numbers, got 2.0"),
        (LONG | {"original_max_position_embeddings": 1}, "must be above 1 for the rope_type 'longrope', got 1"),
        ({"rope_type": "longrope", "long_factor": [1.0] * 64}, "of type 'longrope' must have short_factor"),
        (LLAMA | {"high_freq_factor": 1.0}, r"must be above low_freq_factor \(1.0\), got 1.0"),
        (LLAMA | {"low_freq_factor": 0.0}, "low_freq_factor of the rope must be a positive number, got 0.0"),
        ({"rope_type": "llama3", "factor": 8.0}, "of type 'llama3' must have low_freq_factor"),
        ("yarn", "rope_parameters must be an object, got 'yarn'"),
    ],
)
def test_broken_rules_of_the_rope_are_named(rope, message):
    with pytest.raises(InputError, match=f"^config field .*{message}"):
        MixtralConfig(rope_parameters=rope)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts_per_tok": 9}, r"num_experts_per_tok must be at most num_local_experts \(8\), got 9"),
        ({"num_experts": 4, "num_local_experts": 8}, "num_experts and num_local_experts mean the same, got 4 and 8"),
        ({"num_key_value_heads": 5}, r"must be a multiple of num_key_value_heads \(5\), got 32"),
        ({"head_dim": 7}, "head_dim must be even, .* got 7$"),
        ({"hidden_size": 96}, r"head_dim must be even, .* got 3 \(hidden_size 96 over 32 heads\)"),
        ({"hidden_size": 16}, r"head_dim must be even, .* got 0 \(hidden_size 16 over 32 heads\)"),
        (
            {"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "head_dim must be above 2 .* got 2",
        ),
        ({"hidden_act": "swosh"}, "hidden_act must be one of silu, .* got 'swosh'"),
        ({"sliding_window": 0}, "sliding_window must be positive, got 0"),
        ({"vocab_size": -1}, "vocab_size must be positive, got -1"),
        ({"num_attention_heads": 0}, "num_attention_heads must be positive, got 0"),
        ({"hidden_size": "wide"}, "config field hidden_size: .* it is 'wide'"),
        ({"hidden_size": 64.0}, "config field hidden_size: .* it is 64.0"),
        ({"vocab_size": True}, "config field vocab_size: .* it is True"),
        ({"rms_norm_eps": float("nan")}, "config field rms_norm_eps: .* it is nan"),
        ({"max_position_embeddings": None}, "config field max_position_embeddings: .* it is None"),
        ({"model_type": "llama"}, "model_type must be 'mixtral', got 'llama'"),
        ({"pad_token_id": 32000}, r"pad_token_id must be below vocab_size \(32000\), got 32000"),
        ({"rope_theta": -1.0}, "rope_theta must be positive, got -1.0"),
        (
            {"rope_theta": 9.0, "rope_parameters": {"rope_theta": 500.0}},
            "rope_theta must be the same wherever it stands, got 9.0 in the config itself and 500.0 in its",
        ),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 3.0},
            },
            "factor must be the same wherever it stands, got 2.0 in rope_scaling and 3.0 in rope_parameters",
        ),
        ({"rope_scaling": [1]}, r"rope_scaling must be an object, got \[1\]"),
        ({"attention_dropout": 1.0}, r"attention_dropout must be in \[0, 1\), got 1.0"),
        ({"router_jitter_noise": 1.5}, r"router_jitter_noise must be in \[0, 1\), got 1.5"),
        ({"initializer_range": -0.1}, "initializer_range must not be negative, got -0.1"),
        ({"router_aux_loss_coef": -0.1}, "router_aux_loss_coef must not be negative, got -0.1"),
        ({"routing_weight_dtype": "bf16"}, "config field routing_weight_dtype: .* it is 'bf16'"),
        ({"num_labels": 0}, "num_labels must be a positive integer, got 0"),
        ({"num_labels": 3, "id2label": {"0": "a"}}, r"num_labels must be the size of id2label \(1\), got 3"),
        ({"id2label": {"0": "a", "2": "b"}}, r"id2label must name the labels 0, 1, 2, .* got \[0, 2\]"),
        (
            {"id2label": {"0": "a"}, "label2id": {"a": 1}},
            "label2id must be the reverse of id2label, got {'a': 1}",
        ),
        ({"num_labels": 1, "problem_type": "single_label_classification"}, "needs num_labels above 1, got 1"),
        ({"problem_type": "guessing"}, "config field problem_type: .* it is 'guessing'"),
    ],
)
def test_broken_rules_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        MixtralConfig(**fields)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"got none at .*config\.json"):
        MixtralConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"must be valid JSON, got .*config\.json with an error"):
        MixtralConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"must hold one JSON object, got .* with a list"):
        MixtralConfig.from_pretrained(tmp_path)
