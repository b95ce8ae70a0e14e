"""Folders are read and written with the arguments that code written for transformers gives."""

import json
import pickle
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig, MixtralForCausalLM, Probe
from tests.support.models import reference_model, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(49) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    reference_model(pad_token_id=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def expected(folder):
    with torch.no_grad():
        return reference_model(pad_token_id=0)(IDS).logits


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


# Arguments of reading


@pytest.mark.parametrize(
    "arguments",
    [
        {"local_files_only": True, "trust_remote_code": False, "revision": "main", "token": None, "cache_dir": "x"},
        {"low_cpu_mem_usage": True, "use_safetensors": True, "weights_only": True, "force_download": False},
        {"device_map": "cpu"},
        {"device_map": torch.device("cpu"), "torch_dtype": torch.float32},
        {"device_map": {"": "cpu"}, "torch_dtype": "float32"},
        {"attn_implementation": "eager", "numerics": "reference", "experts_implementation": "eager"},
        {"quantization_config": None, "load_in_4bit": False},
        {"torch_dtype": None, "attn_implementation": None},
        {
            "device_map": dict.fromkeys(
                ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"),
                "cpu",
            ),
            "offload_folder": "x",
        },
    ],
    ids=str,
)
def test_accepted_arguments(folder, expected, arguments):
    model = MixtralForCausalLM.from_pretrained(folder, **arguments)
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")


def test_eager_attention_is_the_reference(folder, expected):
    model = MixtralForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert model.numerics == "reference"
    assert torch.equal(logits(MixtralForCausalLM.from_pretrained(folder, attn_implementation="eager")), expected)
    assert MixtralForCausalLM.from_pretrained(folder, attn_implementation="sdpa").numerics == "fast"
    assert MixtralForCausalLM.from_pretrained(folder, attn_implementation="flash_attention_2").numerics == "fast"
    assert MixtralForCausalLM.from_pretrained(folder).numerics == "fast"


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, torch.float16, "auto"])
def test_dtypes(folder, dtype):
    theirs = transformers.MixtralForCausalLM.from_pretrained(folder, dtype=dtype)
    assert MixtralForCausalLM.from_pretrained(folder, torch_dtype=dtype).dtype is theirs.dtype
    assert MixtralForCausalLM.from_pretrained(folder, dtype=dtype).dtype is theirs.dtype


def test_a_folder_in_a_folder(folder, expected):
    model = MixtralForCausalLM.from_pretrained(folder.parent, subfolder=folder.name)
    assert torch.allclose(logits(model), expected, atol=1e-5)


def test_changes_of_the_config(folder):
    for changes in ({"num_experts_per_tok": 2}, {"sliding_window": 3}, {"output_router_logits": True}):
        theirs = transformers.MixtralForCausalLM.from_pretrained(
            folder, attn_implementation="eager", experts_implementation="eager", **changes
        )
        ours = MixtralForCausalLM.from_pretrained(folder, attn_implementation="eager", **changes)
        with torch.no_grad():
            one, other = ours(IDS), theirs(IDS)
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-5)
        assert list(one) == list(other)
    assert MixtralForCausalLM.from_pretrained(folder, hidden_size=24, pad_token_id=None).config.pad_token_id is None


@pytest.mark.parametrize("kind", ["ours", "theirs", "path", "fields"])
def test_a_config_in_place_of_the_folders(folder, tmp_path, kind):
    config = transformers.MixtralConfig.from_pretrained(folder, num_experts_per_tok=1)
    config.save_pretrained(tmp_path / "config")
    given = {
        "ours": MixtralConfig.from_pretrained(tmp_path / "config"),
        "theirs": config,
        "path": tmp_path / "config",
        "fields": config.to_dict(),
    }[kind]
    shutil.copytree(folder, tmp_path / "weights")
    (tmp_path / "weights" / "config.json").unlink()
    model = MixtralForCausalLM.from_pretrained(tmp_path / "weights", config=given)
    assert model.config.num_experts_per_tok == 1
    wanted = transformers.MixtralForCausalLM.from_pretrained(folder, num_experts_per_tok=1)
    torch.testing.assert_close(logits(model), logits(wanted), rtol=0, atol=1e-4)


def test_models_from_configs_of_transformers(folder):
    config = transformers.MixtralConfig.from_pretrained(folder)
    model = MixtralForCausalLM(config)
    model.load_state_dict(reference_model(pad_token_id=0).state_dict())
    assert isinstance(model.config, MixtralConfig)
    assert model.config.rope_theta == 10000.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"load_in_4bit": True}, r"weights are not quantised here, got load_in_4bit; leave it out, or use dtype='bfl"),
        ({"quantization_config": {"bits": 4}}, "weights are not quantised here, got quantization_config"),
        ({"attn_implementation": "paged"}, "attn_implementation must be one of eager, sdpa, .*, got 'paged'"),
        ({"attn_implementation": "sdpa", "numerics": "reference"}, "'sdpa' is another name of numerics, got numerics="),
        (
            {"dtype": "float16", "torch_dtype": "bfloat16"},
            "is another name of dtype, got dtype='float16' too",
        ),
        ({"config": 3}, "a config must be a MixtralConfig, its fields or a path, got a int"),
        ({"device_map": "toaster"}, "device 'toaster' cannot be used on this machine"),
        ({"hidden_size": 25}, "hidden_size must be that of the weights in the folder, 24; leave it out"),
        ({"num_expert_per_tok": 1}, "got 'num_expert_per_tok'; did you mean 'num_experts_per_tok'"),
        ({"state_dict": {}}, "reads weights from a folder, got state_dict; use load_state_dict of a model"),
        ({"numeric": "fast"}, "got 'numeric'; did you mean 'numerics'"),
        ({"pretrained_model_name_or_path": "elsewhere"}, "'elsewhere' is another name of folder, got folder=.* too"),
        ({"max_memory": {0: "1GB"}}, "must be its own or fields of a config, got 'max_memory'; leave it out"),
    ],
    ids=str,
)
def test_refused_arguments(folder, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        MixtralForCausalLM.from_pretrained(folder, **arguments)


def test_the_name_of_the_first_argument(folder, expected):
    model = MixtralForCausalLM.from_pretrained(pretrained_model_name_or_path=folder)
    assert torch.allclose(logits(model), expected, atol=1e-5)
    with pytest.raises(InputError, match="from_pretrained reads a folder, got none; name one"):
        MixtralForCausalLM.from_pretrained()


def test_a_generation_config_in_place_of_the_folders(folder):
    given = transformers.GenerationConfig(max_new_tokens=3, pad_token_id=0)
    model = MixtralForCausalLM.from_pretrained(folder, generation_config=given)
    assert model.generate(IDS).shape[1] <= IDS.shape[1] + 3


# What was not read


@pytest.mark.filterwarnings("ignore:.*(random weights|are not read|is not read):UserWarning")
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ForCausalLM", {}),
        ("Model", {}),
        ("ForSequenceClassification", {"num_labels": 3}),
        ("ForTokenClassification", {}),
        ("ForQuestionAnswering", {}),
    ],
)
def test_the_loading_info_is_that_of_transformers(folder, kind, changes):
    theirs, wanted = getattr(transformers, f"Mixtral{kind}").from_pretrained(
        folder, output_loading_info=True, **changes
    )
    ours, found = getattr(mp, f"Mixtral{kind}").from_pretrained(folder, output_loading_info=True, **changes)
    assert type(ours).__name__ == type(theirs).__name__
    assert {name: set(found[name]) for name in found} == {name: set(wanted[name]) for name in found}


@pytest.mark.filterwarnings("ignore:.*random weights:UserWarning")
def test_another_number_of_labels(tmp_path):
    mp.MixtralForSequenceClassification(toy_model(num_labels=2).config).save_pretrained(tmp_path)
    arguments = {"num_labels": 5, "ignore_mismatched_sizes": True, "output_loading_info": True}
    ours, found = mp.MixtralForSequenceClassification.from_pretrained(tmp_path, **arguments)
    theirs, wanted = transformers.MixtralForSequenceClassification.from_pretrained(tmp_path, **arguments)
    assert ours.score.weight.shape == theirs.score.weight.shape == (5, 24)
    assert found["mismatched_keys"] == {("score.weight", (2, 24), (5, 24))}
    assert {name for name, *_ in wanted["mismatched_keys"]} == {"score.weight"}
    with pytest.warns(UserWarning, match=r"score\.weight is of another shape in .*: this head has random weights"):
        mp.MixtralForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    with pytest.raises(InputError, match="or ignore_mismatched_sizes=True for a new head"):
        mp.MixtralForSequenceClassification.from_pretrained(tmp_path, num_labels=5)


# Probe


def test_a_probe_takes_them_too():
    probe = Probe.from_pretrained("mini", num_experts_per_tok=3, attn_implementation="eager", local_files_only=True)
    assert probe.trace("a short text").expert_ids.shape[-1] == 3
    assert probe.model.numerics == "reference"
    with pytest.raises(InputError, match="a probe is one object, got output_loading_info=True"):
        Probe.from_pretrained("mini", output_loading_info=True)


# Pickled weights


def pickled(folder, path, shards=1, **how):
    """The folder with its weights as pickles, as transformers 4 wrote them."""
    path.mkdir()
    for name in ("config.json", "generation_config.json"):
        shutil.copy(folder / name, path)
    weights = load_file(folder / "model.safetensors")
    if shards == 1:
        torch.save(weights, path / "pytorch_model.bin", **how)
        return path
    places = {name: f"pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.bin" for i, name in enumerate(weights)}
    for file in set(places.values()):
        torch.save({name: w for name, w in weights.items() if places[name] == file}, path / file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return path


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("indexed", [True, False])
def test_pickled_weights_are_read(folder, tmp_path, expected, shards, indexed):
    path = pickled(folder, tmp_path / "pickled", shards)
    if not indexed:
        (path / "pytorch_model.bin.index.json").unlink(missing_ok=True)
    assert torch.allclose(logits(MixtralForCausalLM.from_pretrained(path)), expected, atol=1e-5)
    if shards == 1 or indexed:  # transformers needs the index
        assert torch.allclose(logits(transformers.MixtralForCausalLM.from_pretrained(path)), expected, atol=1e-5)


def test_pickled_weights_of_old_torch_are_read(folder, tmp_path, expected):
    path = pickled(folder, tmp_path / "pickled", _use_new_zipfile_serialization=False)
    assert torch.allclose(logits(MixtralForCausalLM.from_pretrained(path)), expected, atol=1e-5)


def test_safetensors_come_first(folder, tmp_path, expected):
    path = shutil.copytree(folder, tmp_path / "both")
    (path / "pytorch_model.bin").write_bytes(b"broken")
    assert torch.allclose(logits(MixtralForCausalLM.from_pretrained(path)), expected, atol=1e-5)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_runs_no_code(folder, tmp_path, capsys):
    path = pickled(folder, tmp_path / "pickled")
    for content in ({"a": Evil()}, Evil()):
        torch.save(content, path / "pytorch_model.bin")
        with pytest.raises(InputError, match=r"pytorch_model\.bin must be a whole file of weights and nothing else"):
            MixtralForCausalLM.from_pretrained(path)
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"pytorch_model\.bin must be a whole file of weights and nothing else"):
        MixtralForCausalLM.from_pretrained(path)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": Evil()}, r"got an object that calls print, which is not done; save the state_dict\(\) of"),
        (torch.nn.Linear(2, 2), r"got an object that calls torch\.nn\.modules\.linear\.Linear, which is not done"),
        (
            {"model": {"a": torch.ones(2)}},
            "must hold tensors by their names and nothing else, got a dict named 'model'",
        ),
        ({"a": torch.ones(2), "step": 7}, "got a int named 'step'; save the state_dict"),
        ([torch.ones(2)], "got a list; save the state_dict"),
    ],
)
def test_what_a_pickle_holds_beside_tensors(folder, tmp_path, content, sentence):
    path = pickled(folder, tmp_path / "pickled")
    torch.save(content, path / "pytorch_model.bin")
    with pytest.raises(InputError, match=sentence):
        MixtralForCausalLM.from_pretrained(path)


def test_what_a_pickle_lacks_is_named(folder, tmp_path):
    path = pickled(folder, tmp_path / "pickled", 2)
    (path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(InputError, match=r"pytorch_model\.bin\.index\.json names pytorch_model-00002-of-00002\.bin"):
        MixtralForCausalLM.from_pretrained(path)


# Writing


def test_saved_with_arguments_of_transformers(tmp_path, expected):
    model = toy_model(pad_token_id=0)
    model.save_pretrained(tmp_path / "a", safe_serialization=True, max_shard_size="5GB", is_main_process=True)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors",
    }  # fmt: skip
    model.save_pretrained(tmp_path / "b", save_original_format=False)
    names = load_file(tmp_path / "b" / "model.safetensors").keys()
    assert "model.layers.0.mlp.experts.gate_up_proj" in names
    for path in ("a", "b"):
        read = transformers.MixtralForCausalLM.from_pretrained(tmp_path / path)
        assert torch.allclose(logits(read), expected, atol=1e-5)
        assert read.generation_config.pad_token_id == 0
    model.save_pretrained(tmp_path / "c", is_main_process=False)
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match="weights are written as safetensors, got safe_serialization=False"):
        model.save_pretrained(tmp_path / "c", safe_serialization=False)


@pytest.mark.parametrize("kind", ["ForCausalLM", "ForSequenceClassification"])
def test_the_decoder_of_a_model_is_saved_alone(tmp_path, kind):
    model = getattr(mp, f"Mixtral{kind}")(toy_model().config)
    model.prune_heads({1: [0]})
    model.base_model.save_pretrained(tmp_path)
    own, theirs = mp.MixtralModel.from_pretrained(tmp_path), transformers.MixtralModel.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model.eval().base_model(IDS).last_hidden_state
        assert torch.equal(own(IDS).last_hidden_state, expected)
        assert torch.allclose(theirs(IDS).last_hidden_state, expected, atol=1e-5)
    again = type(model.base_model)(model.config)
    again.load_state_dict(model.base_model.state_dict())
    assert torch.equal(again.eval()(IDS).last_hidden_state, expected)


def test_saved_with_arguments_that_change_nothing(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path / "a", push_to_hub=False, token=None, variant=None, save_peft_format=True)
    assert torch.equal(logits(MixtralForCausalLM.from_pretrained(tmp_path / "a")), logits(model))
    model.config.save_pretrained(tmp_path / "b", push_to_hub=False)
    assert MixtralConfig.from_pretrained(tmp_path / "b").to_dict() == model.config.to_dict()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"push_to_hub": True}, "a model is saved in a folder only, got push_to_hub=True; leave it out"),
        ({"variant": "bf16"}, "a model is saved in a folder only, got variant='bf16'"),
        ({"push_to_hubb": False}, "arguments of save_pretrained must be its own, got 'push_to_hubb'; did you mean"),
        ({"zzz": 1}, "got 'zzz'; leave it out"),
    ],
)
def test_refused_arguments_of_saving(tmp_path, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        toy_model().save_pretrained(tmp_path, **arguments)
    with pytest.raises(InputError, match="a config is saved in a folder only, got push_to_hub=True"):
        toy_model().config.save_pretrained(tmp_path, push_to_hub=True)
    assert not list(tmp_path.iterdir())


def test_saved_with_weights_gathered_elsewhere(tmp_path):
    """As accelerate's examples save: unwrapped.save_pretrained(…, state_dict=accelerator.get_state_dict(model))."""
    model, other = toy_model(seed=1), toy_model(seed=2)
    model.save_pretrained(tmp_path, state_dict=other.state_dict(), save_function=torch.save)
    assert torch.equal(logits(MixtralForCausalLM.from_pretrained(tmp_path)), logits(other))
