"""Configs are written, read and assigned to as code written for transformers does."""

import copy
import json
import pickle

import pytest
import transformers

from mixtral_probe import InputError, MixtralConfig

SMALL = {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50}


def test_saved_and_read(tmp_path):
    config = MixtralConfig(**SMALL, custom={"a": [1]}, pad_token_id=3)
    config.save_pretrained(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder"
    assert MixtralConfig.from_pretrained(path) == MixtralConfig.from_pretrained(path / "config.json")
    assert MixtralConfig.from_pretrained(str(path)).to_dict() == config.to_dict()
    theirs = transformers.MixtralConfig.from_pretrained(path)
    assert (theirs.hidden_size, theirs.custom, theirs.pad_token_id) == (24, {"a": [1]}, 3)
    assert MixtralConfig.from_pretrained(path, num_experts_per_tok=3).num_experts_per_tok == 3
    theirs.save_pretrained(tmp_path / "theirs")
    assert MixtralConfig.from_pretrained(tmp_path / "theirs").custom == {"a": [1]}


def test_the_embedded_models():
    assert MixtralConfig.from_pretrained("mini").num_hidden_layers == 8
    assert MixtralConfig.from_pretrained("mini", num_experts_per_tok=1).num_experts_per_tok == 1


def test_as_text():
    config = MixtralConfig(**SMALL, num_labels=3)
    text = config.to_json_string()
    assert MixtralConfig.from_dict(json.loads(text)) == MixtralConfig.from_dict(config.to_dict())
    assert text.endswith("}\n")
    assert text.index('"hidden_size": 24') < text.index('"vocab_size": 50')
    assert transformers.MixtralConfig(**json.loads(text)).num_labels == 3


def test_changes_of_a_dict():
    assert MixtralConfig.from_dict(SMALL, vocab_size=60).vocab_size == 60
    assert MixtralConfig(num_experts=4).num_experts == 4
    config = MixtralConfig(**SMALL, dtype="float32")
    assert config.replace(torch_dtype="bfloat16").dtype == "bfloat16"
    assert config.replace(num_experts=4).num_local_experts == 4
    assert config.get_text_config() is config


def test_what_models_read_in_every_call_is_assigned():
    config = MixtralConfig(**SMALL)
    config.use_cache = False
    config.pad_token_id = config.eos_token_id = 7
    config.sliding_window = 3
    config.id2label = {0: "no", 1: "yes"}
    config.pretraining_tp = 1
    config._private = object()
    assert (config.use_cache, config.pad_token_id, config.sliding_window) == (False, 7, 3)
    assert config.label2id == {"no": 0, "yes": 1}
    assert config.to_dict()["pretraining_tp"] == 1
    assert "_private" not in config.to_dict()
    assert MixtralConfig.from_dict(config.to_dict()).use_cache is False


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda c: c.model_copy(), lambda c: c.replace()])
def test_copies_are_independent(copied):
    config = MixtralConfig(**SMALL, custom=1)
    other = copied(config)
    other.use_cache, other.custom = False, 2
    assert (config.use_cache, config.custom) == (True, 1)
    assert pickle.loads(pickle.dumps(other)).custom == 2


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("hidden_size", 32, r"hidden_size is fixed, .* of 32; make another .*config\.replace\(hidden_size=…"),
        ("num_experts_per_tok", 3, "num_experts_per_tok is fixed"),
        ("rope_parameters", {}, "rope_parameters is fixed"),
        ("num_labels", 3, "num_labels is fixed"),
        ("num_experts", 3, "num_experts is fixed"),
        ("id2label", {0: "a", 1: "b", 2: "c"}, "id2label is fixed"),
        ("head_size", 3, "head_size is fixed"),
        ("use_cache", "yes", "config field use_cache: .* it is 'yes'"),
        ("pad_token_id", 50, r"pad_token_id must be below vocab_size \(50\), got 50"),
        ("sliding_window", 0, "sliding_window must be positive, got 0"),
        ("label2id", {"a": 0}, "label2id must be the reverse of id2label"),
        ("problem_type", "guessing", "config field problem_type: .* it is 'guessing'"),
    ],
)
def test_assignments_that_cannot_be(name, value, sentence):
    config = MixtralConfig(**SMALL)
    before = config.to_dict()
    with pytest.raises(InputError, match=sentence):
        setattr(config, name, value)
    assert config.to_dict() == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        MixtralConfig(**SMALL).save_pretrained(tmp_path / "file")


def test_a_config_is_written_under_any_name(tmp_path):
    config = MixtralConfig(num_local_experts=6)
    config.to_json_file(tmp_path / "six.json")
    assert MixtralConfig.from_pretrained(tmp_path / "six.json").to_dict() == config.to_dict()
    assert json.loads((tmp_path / "six.json").read_text())["num_local_experts"] == 6
