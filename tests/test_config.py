import json

import pytest

from mixtral_probe import InputError, MixtralConfig

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


def test_published_parameter_counts():
    """Sizes of the published checkpoints; "Mixtral of Experts" gives 47B and 13B."""
    assert MixtralConfig(**MIXTRAL_8X7B).num_parameters() == 46_702_792_704
    assert round(MixtralConfig(**MIXTRAL_8X7B).num_active_parameters() / 1e9, 1) == 12.9
    large = {"hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56, "num_attention_heads": 48}
    assert MixtralConfig(**MIXTRAL_8X7B | large).num_parameters() == 140_620_634_112


def test_defaults_and_derived_fields():
    config = MixtralConfig()
    assert (config.head_dim, config.num_key_value_heads, config.rope_theta) == (128, 8, 1e6)
    config = MixtralConfig(num_key_value_heads=None, head_dim=None, hidden_size=64, num_attention_heads=4)
    assert (config.head_dim, config.num_key_value_heads) == (16, 4)
    assert MixtralConfig(head_dim=64).head_dim == 64
    assert MixtralConfig(num_experts=16).num_local_experts == 16


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 500.0},
        {"rope_theta": 500.0, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_theta": 9.0, "rope_parameters": {"rope_theta": 500.0}},
    ],
)
def test_every_spelling_of_rope_is_read_and_both_are_written(fields):
    config = MixtralConfig(**fields)
    written = config.to_dict()
    assert config.rope_theta == written["rope_theta"] == 500.0
    assert written["rope_parameters"] == {"rope_theta": 500.0, "rope_type": "default"}
    assert MixtralConfig(**written).to_dict() == written


def test_unknown_keys_are_kept(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL_8X7B | {"my_note": {"a": [1]}}))
    written = MixtralConfig.from_file(tmp_path).to_dict()
    assert written["my_note"] == {"a": [1]}
    assert {key: written[key] for key in MIXTRAL_8X7B} == MIXTRAL_8X7B


def test_end_tokens_may_be_several():
    assert MixtralConfig(eos_token_id=[2, 5]).eos_token_id == [2, 5]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts_per_tok": 9}, r"num_experts_per_tok must be at most num_local_experts \(8\), but it is 9"),
        ({"num_key_value_heads": 5}, r"must be a multiple of num_key_value_heads \(5\), but it is 32"),
        ({"head_dim": 7}, "head_dim must be even, .* but it is 7"),
        ({"hidden_act": "swosh"}, "hidden_act must be one of silu, .* but it is 'swosh'"),
        ({"sliding_window": 0}, "sliding_window must be positive, but it is 0"),
        ({"vocab_size": -1}, "vocab_size must be positive, but it is -1"),
        ({"hidden_size": "wide"}, "config field hidden_size: .* it is 'wide'"),
        ({"model_type": "llama"}, "model_type must be 'mixtral', but it is 'llama'"),
        ({"pad_token_id": 32000}, r"pad_token_id must be below vocab_size \(32000\), but it is 32000"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type must be 'default', but it is 'linear'"),
        ({"rope_theta": -1.0}, "rope_theta must be positive, but it is -1.0"),
        ({"attention_dropout": 1.0}, r"attention_dropout must be in \[0, 1\), but it is 1.0"),
        ({"router_jitter_noise": 1.5}, r"router_jitter_noise must be in \[0, 1\), but it is 1.5"),
    ],
)
def test_broken_rules_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        MixtralConfig(**fields)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"there is none at .*config\.json"):
        MixtralConfig.from_file(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"must be valid JSON, but .*config\.json is not"):
        MixtralConfig.from_file(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"must hold one JSON object, but .* holds a list"):
        MixtralConfig.from_file(tmp_path)
