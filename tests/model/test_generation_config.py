"""Defaults of generation in a model folder have the precedence of transformers."""

import json
import shutil

import pytest
import torch
import transformers

from mixtral_probe import InputError, MixtralForCausalLM, Probe
from mixtral_probe.resources import data_path
from tests.support.models import SIZES, reference_model, toy_model

IDS = torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(0))
FIELDS = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "num_beams", "length_penalty",
    "early_stopping",
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    reference_model(0, std=0.3, pad_token_id=0, eos_token_id=2).save_pretrained(folder)
    return folder


def folder_with(saved, path, generation, **config):
    shutil.copytree(saved, path)
    if generation is None:
        (path / "generation_config.json").unlink()
    else:
        (path / "generation_config.json").write_text(json.dumps(generation))
    fields = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(fields | config))
    return path


CASES = [
    ({"eos_token_id": [2, 5, 17], "max_new_tokens": 9}, {}, {}),
    ({"max_new_tokens": 12}, {}, {}),
    ({"eos_token_id": [2, 5], "max_new_tokens": 12, "repetition_penalty": 1.4, "pad_token_id": 1}, {}, {}),
    ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 2, "max_new_tokens": 8}, {}, {}),
    ({"do_sample": True, "top_k": 4, "eos_token_id": 2, "max_new_tokens": 8, "pad_token_id": 2}, {}, {"top_k": 0}),
    ({"do_sample": True, "top_k": None, "min_p": 0.1, "max_new_tokens": 8}, {}, {"temperature": 2.0}),
    ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 8}, {}, {"do_sample": False}),
    ({"num_beams": 3, "length_penalty": 2.0, "early_stopping": True, "max_new_tokens": 6, "eos_token_id": 3}, {}, {}),
    ({"num_beams": 3, "max_new_tokens": 6, "eos_token_id": 3, "temperature": 0.1}, {}, {"num_beams": 1}),
    ({"eos_token_id": [2, 5], "max_new_tokens": 9}, {}, {"eos_token_id": None}),
    ({"eos_token_id": [2, 5], "max_new_tokens": 9}, {}, {"max_new_tokens": 4, "eos_token_id": 7}),
    ({"max_new_tokens": 9, "unknown": 3, "eos_token_id": 30000}, {}, {}),
    (None, {"eos_token_id": [2, 5, 17]}, {"max_new_tokens": 9}),
    (None, {"do_sample": True, "temperature": 0.5, "top_k": 7, "max_new_tokens": 8}, {}),
    (None, {"num_beams": 2, "max_new_tokens": 5, "repetition_penalty": 2.0}, {"repetition_penalty": 1.0}),
]


@pytest.mark.parametrize(("generation", "config", "given"), CASES, ids=str)
def test_settings_and_tokens_are_those_of_transformers(saved, tmp_path, generation, config, given):
    folder = folder_with(saved, tmp_path / "model", generation, **config)
    theirs = transformers.MixtralForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    ours = MixtralForCausalLM.from_pretrained(folder)
    expected, _ = theirs._prepare_generation_config(None, **given)
    options = ours.generation_options(**given)
    drawing = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": None}
    for name in FIELDS:
        unused = name in drawing and not expected.do_sample
        assert getattr(options, name) == (drawing[name] if unused else getattr(expected, name)), name
    torch.manual_seed(4)
    mask = torch.ones_like(IDS)
    wanted = theirs.generate(IDS, attention_mask=mask, **given)
    assert ours.generate(IDS, attention_mask=mask, seed=4, **given).tolist() == wanted.tolist()


def test_saved_and_read_again(saved, tmp_path):
    fields = {"eos_token_id": [2, 5], "do_sample": True, "custom": {"a": [1]}}
    ours = MixtralForCausalLM.from_pretrained(folder_with(saved, tmp_path / "a", fields))
    ours.save_pretrained(tmp_path / "b")
    assert MixtralForCausalLM.from_pretrained(tmp_path / "b").generation_config == fields
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "b").eos_token_id == [2, 5]


def test_a_model_without_the_file_saves_the_ids_of_its_config(tmp_path):
    toy_model(eos_token_id=[4, 6], pad_token_id=0).save_pretrained(tmp_path)
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == ([4, 6], 0, 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", r"generation_config\.json must be valid JSON, got .*; correct it, or remove it to use config\.json"),
        ("[1]", r"generation_config\.json must hold one JSON object, got .* with a list"),
        ("[" * 100_000, r"generation_config\.json must be valid JSON, got .*, nested too deep"),
    ],
)
def test_a_broken_file(saved, tmp_path, content, sentence):
    folder = folder_with(saved, tmp_path / "model", {})
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        MixtralForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_beams": "3"}, "num_beams must be a whole number of at least 1, got '3'"),
        ({"do_sample": True, "temperature": "hot"}, "temperature must be above 0 .*, got 'hot'"),
        ({"eos_token_id": "</s>"}, "eos_token_id must be a token id, several of them, or None, got '</s>'"),
        ({"stop_strings": 3}, "stop_strings must be texts, none empty, got 3"),
    ],
)
def test_stored_values_that_break_a_rule(fields, sentence):
    model = toy_model()
    model.generation_config = fields
    with pytest.raises(InputError, match=f"{sentence}.*generation_config"):
        model.generate(IDS)


def test_a_recorded_turn_ends_at_any_stop_id(tmp_path):
    """The model's own most probable token is made a stop id: the trace holds the prompt and nothing after it."""
    shutil.copy(data_path("mixtral-mini") / "tokenizer.json", tmp_path)
    model = toy_model(std=0.2, vocab_size=8192, **SIZES)
    model.save_pretrained(tmp_path)
    free = Probe.from_pretrained(tmp_path).trace("a truth", generate=6)
    fourth = int(free.tokens["token_id"].iloc[-3])
    assert (free.tokens["phase"] == "decode").sum() == 5
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, fourth]}))
    probe = Probe.from_pretrained(tmp_path)
    trace = probe.trace("a truth", generate=6)
    decoded = trace.tokens.loc[trace.tokens["phase"] == "decode", "token_id"].tolist()
    new = free.tokens.loc[free.tokens["phase"] == "decode", "token_id"].tolist()
    assert decoded == new[: new.index(fourth)]
    assert probe.generate("a truth", 6) == trace.documents["generated"][0]
    assert probe.trace("a truth", generate=6, eos_token_id=None).tokens["token_id"].tolist() == [
        *free.tokens["token_id"]
    ]
