"""A path that is something else than a model folder is recognised, and the sentence says what helps."""

import json
import shutil

import pytest

from mixtral_probe import Checkpoint, InputError, MixtralForCausalLM, Probe
from mixtral_probe.checkpoint import model_folder
from mixtral_probe.resources import data_path
from tests.support.cli import refused as refused_by_cli
from tests.support.models import toy_model


def refused(path, sentence):
    """Each way to open a model gives the same sentence."""
    for open_it in (model_folder, Checkpoint, MixtralForCausalLM.from_pretrained, Probe.from_pretrained):
        with pytest.raises(InputError, match=sentence) as caught:
            open_it(path)
        assert "\n" not in str(caught.value)


def write(folder, *names, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", ["LORA", "IA3"])
def test_an_adapter(tmp_path, kind):
    fields = {"peft_type": kind, "base_model_name_or_path": "mistralai/Mixtral-8x7B-Instruct-v0.1"}
    write(tmp_path, "adapter_model.safetensors", "tokenizer.json", adapter_config=fields)
    refused(
        tmp_path,
        rf"an adapter \({kind} of PEFT\) of mistralai/Mixtral-8x7B-Instruct-v0\.1, not a whole model; merge and save "
        r".*AutoPeftModelForCausalLM\.from_pretrained\('.*'\)\.merge_and_unload\(\)\.save_pretrained\(OUT\)",
    )
    refused(tmp_path / "adapter_model.safetensors", "the weights of an adapter without the model it belongs to; merge")


def test_an_adapter_without_its_file(tmp_path):
    refused(write(tmp_path, "adapter_model.bin"), "got .*, an adapter, not a whole model")


@pytest.mark.parametrize("name", ["mixtral-8x7b.Q4_K_M.gguf", "model.GGUF"])
def test_gguf(tmp_path, name):
    write(tmp_path, name, "config.json")
    refused(tmp_path, r"with GGUF files of llama\.cpp, which are not read; get the model .* or convert it .*gguf_file=")
    refused(tmp_path / name, r"a GGUF file of llama\.cpp, which is not read; get the model")


@pytest.mark.parametrize(
    "name",
    [
        "mistralai/Mixtral-8x22B-v0.1",
        "https://huggingface.co/mistralai/Mixtral-8x22B-v0.1",
        "https://huggingface.co/mistralai/Mixtral-8x22B-v0.1/tree/main",
    ],
)
def test_the_name_of_a_model_on_the_hub(name):
    refused(
        name,
        r"the name of a model on the .* Hub.*: hf download mistralai/Mixtral-8x22B-v0\.1 --local-dir Mixtral-8x22B",
    )


@pytest.mark.parametrize("name", ["./a/b", "/a/b", "a/b/c", "nothing", "models/"])
def test_other_paths_without_anything(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(name, "a path that does not exist$")


def test_a_path_below_a_folder_that_exists_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    refused("models/mixtral", "a path that does not exist$")


def test_the_cache_of_the_hub(tmp_path):
    model = tmp_path / "models--mistralai--Mixtral-8x7B-v0.1"
    for commit in ("aaa", "bbb"):
        toy_model().save_pretrained(model / "snapshots" / commit)
    write(model / "refs")
    refused(model, rf"a model in the cache of the Hub; give its snapshot, {model}/snapshots/bbb$")
    (model / "refs" / "main").write_text("aaa\n")
    refused(model, rf"give its snapshot, {model}/snapshots/aaa$")
    refused(tmp_path, rf"the cache of the Hub; give a snapshot of one of its models, below {model}/snapshots$")
    for commit in ("aaa", "bbb"):
        (model / "snapshots" / commit / "model.safetensors").unlink()
    refused(model, r"without its weights; fetch them with: hf download mistralai/Mixtral-8x7B-v0\.1$")


def test_the_output_of_a_training(tmp_path):
    write(tmp_path, "trainer_state.json", "tokenizer.json")
    for step in (500, 1000, 60):
        write(tmp_path / f"checkpoint-{step}", "model.safetensors")
    refused(tmp_path, rf"the output of a training, .* checkpoint-…; give {tmp_path}/checkpoint-1000$")


@pytest.mark.parametrize(
    "names", [("zero_to_fp32.py", "latest"), ("global_step60/mp_rank_00_model_states.pt",), ("a_optim_states.pt",)]
)
def test_shards_of_deepspeed(tmp_path, names):
    write(tmp_path, "config.json", *names)
    refused(
        tmp_path, rf"DeepSpeed \(ZeRO\); gather them with: python .*zero_to_fp32\S* {tmp_path} {tmp_path} --safe_ser"
    )


@pytest.mark.parametrize("name", ["pytorch_model_fsdp_0/__0_0.distcp", "__1_0.distcp"])
def test_shards_of_fsdp(tmp_path, name):
    refused(write(tmp_path, "config.json", name), "a training with FSDP; gather them with: accelerate merge-weights")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weights.00.npz", "weights of MLX as .npz"),
        ("flax_model.msgpack", "weights of JAX"),
        ("tf_model.h5", "weights of TensorFlow"),
        ("model.onnx", "a model in ONNX"),
        ("last.ckpt", r"a checkpoint of a training program \(\.ckpt\)"),
    ],
)
def test_weights_of_other_libraries(tmp_path, name, words):
    refused(write(tmp_path, "config.json", name), words)


def test_a_folder_around_the_model(tmp_path):
    toy_model().save_pretrained(tmp_path / "hf")
    refused(tmp_path, rf"with models in folders of it; give one of them, such as {tmp_path}/hf$")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "consolidated.00.pth", "tokenizer.model"])
def test_a_file_of_the_folder(tmp_path, name):
    write(tmp_path, name)
    refused(tmp_path / name, rf"a file of a model's folder; give the folder, {tmp_path}$")


def test_an_archive(tmp_path):
    write(tmp_path, "mixtral.tar.gz")
    refused(tmp_path / "mixtral.tar.gz", "an archive; unpack it")


def test_an_empty_folder_and_one_of_something_else_are_told_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"needs a config\.json, got none"):
        Checkpoint(write(tmp_path, "notes.txt"))


def test_the_command_line_says_the_same(tmp_path):
    write(tmp_path, "adapter_model.safetensors", adapter_config={})
    assert "an adapter, not a whole model" in refused_by_cli("info", tmp_path)
    (tmp_path / "routes.csv").write_text("a,b")
    assert "a model folder (with config.json or params.json) or a trace" in refused_by_cli(
        "info", tmp_path / "routes.csv"
    )
    (tmp_path / "m.gguf").write_text("x")
    assert "a GGUF file of llama.cpp" in refused_by_cli("info", tmp_path / "m.gguf")
    assert "hf download a/b" in refused_by_cli("capture", "--model", "a/b", "--text", "x", "--out", tmp_path / "t")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "/" + "y" * 300])
def test_paths_that_cannot_be_opened(path):
    refused(path, "a path must have")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_pointers_of_git_lfs(tmp_path, name):
    toy_model(vocab_size=8192).save_pretrained(tmp_path)
    shutil.copy(data_path("mixtral-mini") / "tokenizer.json", tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(InputError, match=rf"{name} must be the file itself, got a pointer of Git LFS, .*git lfs pull"):
        Probe.from_pretrained(tmp_path)
