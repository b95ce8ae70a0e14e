import json
import os
import re
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from mixtral_probe import Checkpoint, InputError, MixtralConfig, MixtralForCausalLM, MixtralModel
from mixtral_probe.checkpoint import memory
from tests.support.models import toy_model

EXPERT = "model.layers.1.block_sparse_moe.experts"


def change(folder, edit):
    """Rewrite the weights of a single-file checkpoint."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "model.safetensors")


def refused(folder, message):
    with pytest.raises(InputError, match=message) as caught:
        MixtralForCausalLM.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_not_a_folder(tmp_path):
    refused(tmp_path / "nothing", r"a model must be a folder, .*nothing, a path that does not exist")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", r"a model must be a folder, .*file, a file$")


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, r"needs a config\.json, got none")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"must hold model\.safetensors or shards of it, got neither$")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(folder, r"pytorch_model\.bin must be a whole file of weights and nothing else")


def test_foreign_names_in_a_native_file(folder):
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    refused(folder, r"must name its tensors as Mistral does, .* got none in .*; if .* call it model\.safetensors")


def test_missing_shard(tmp_path):
    toy_model().save_pretrained(tmp_path, max_shard_size=30_000)
    shards = sorted(tmp_path.glob("model-*"))
    shards[1].unlink()
    refused(tmp_path, rf"names {shards[1].name}, which .* does not have")
    (tmp_path / "model.safetensors.index.json").unlink()
    refused(tmp_path, rf"must hold {len(shards)} shards, got all but {shards[1].name}")


def test_index_that_lies(tmp_path):
    toy_model().save_pretrained(tmp_path, max_shard_size=30_000)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.9.extra"] = index["weight_map"]["lm_head.weight"]
    path.write_text(json.dumps(index))
    refused(tmp_path, r"model-\d+-of-\d+\.safetensors must hold model\.layers\.9\.extra by .*, got a file without it")
    path.write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    refused(tmp_path, r"must name files beside it, got '\.\./elsewhere\.safetensors'")
    path.write_text('{"weight_map": ["a.safetensors"]}')
    refused(tmp_path, "must be a JSON object with a weight_map")
    path.write_text("[" * 10**5)
    refused(tmp_path, r"index\.json must be valid JSON, got .*, nested too deep; download it again")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("num_hidden_layers", "must have the weights of 100000000 layers, as its config says, got 2 of them"),
        ("num_local_experts", r"gate\.weight must have the shape \[100000000, 24\] by config\.json, got \[12, 24\]"),
    ],
)
def test_a_config_of_very_many_layers_or_experts_is_refused_by_the_headers(folder, field, message):
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {field: 10**8}))
    start = time.process_time()
    refused(folder, message)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 2**40}, "hidden_size must be at most 2,147,483,647, got 1099511627776"),
        ({"vocab_size": 2**31 - 1, "hidden_size": 2**30}, r"at most 10\^15 weights together, got [\d.e+]+"),
        ({"num_labels": 10**7}, "num_labels must be at most 1,000,000, got 10000000"),
        ({"rope_theta": 10**400}, "rope_theta must be positive, got 1000000"),
        ({"heads_pruned": ["q"]}, r"heads_pruned must be layers with lists of heads, got \['q'\] with an error"),
    ],
)
def test_sizes_beyond_all_models(folder, changes, message):
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if "rope" not in k} | changes))
    refused(folder, message)


def test_compressed_parts_of_a_torch_file(folder):
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "consolidated.00.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    refused(folder, r"must be a whole file of weights and nothing else \(its parts are compressed\)")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError):
        MixtralForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("kept", [4, 2000, 60_000])
def test_truncated_file(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, r"model\.safetensors must be a whole safetensors file")


def test_missing_tensors_are_placed(folder):
    change(folder, lambda weights: weights.pop(f"{EXPERT}.10.w3.weight"))
    refused(folder, rf"layer 1, expert 10: w3 is missing: .* has no tensor {re.escape(EXPERT)}\.10\.w3\.weight")


def test_missing_attention_and_norm(folder):
    change(folder, lambda weights: weights.pop("model.layers.0.self_attn.q_proj.weight"))
    refused(folder, r"layer 0: self_attn\.q_proj\.weight is missing")


def test_missing_expert(folder):
    change(folder, lambda weights: [weights.pop(f"{EXPERT}.7.w{i}.weight") for i in (1, 2, 3)])
    refused(folder, "layer 1, expert 7: w1 is missing")


def test_wrong_shape_names_both_shapes_and_the_file(folder):
    name = f"{EXPERT}.7.w2.weight"
    change(folder, lambda weights: weights.update({name: weights[name].t()}))
    refused(
        folder,
        r"layer 1, expert 7: w2 must have the shape \[24, 20\] by config\.json, got \[20, 24\] "
        r"\(model\.layers\.1\S+ in .*model\.safetensors\)",
    )


def test_fused_tensor_of_the_wrong_shape(tmp_path):
    toy_model().save_pretrained(tmp_path, layout="fused")
    name = "model.layers.1.mlp.experts.down_proj"
    change(tmp_path, lambda weights: weights.update({name: weights[name].mT}))
    refused(tmp_path, r"layer 1: .*down_proj must have the shape \[12, 24, 20\] by config\.json, got \[12, 20, 24\]")


def test_another_number_of_experts(folder):
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"num_local_experts": 11}))
    refused(folder, r"must have the shape \[11, 24\]")
    (folder / "config.json").write_text(json.dumps(fields | {"num_local_experts": 13}))
    refused(folder, r"must have the shape \[13, 24\]")


def test_tensor_stored_twice(folder):
    twice = {"model.norm.weight": torch.ones(24)}
    save_file(twice, folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    refused(
        folder, r"stored once, got model\.norm\.weight in model-00002-of-00002\.safetensors and model\.norm\.weight in"
    )


def test_quantised_weights(folder):
    name = f"{EXPERT}.3.w1.weight"
    change(folder, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    refused(folder, r"layer 1, expert 3: w1 must be stored as one of F64, F32, F16, BF16, got I8")


def test_base_model_has_no_head(folder, tmp_path):
    MixtralModel.from_pretrained(folder).save_pretrained(tmp_path / "base")
    refused(tmp_path / "base", r"lm_head\.weight is missing from .*: it has no language head; load it as MixtralModel")


def test_unknown_layer_and_name(folder):
    checkpoint = Checkpoint(folder)
    with pytest.raises(InputError, match=r"layer must be in 0–1 \(this model has 2\), got 2"):
        checkpoint.layer(2)
    with pytest.raises(InputError, match=r"must be one of Checkpoint\.names, got 'model\.nothing'"):
        checkpoint.tensor("model.nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, .* got 'int8'"),
        ({"device": "toaster"}, "device 'toaster' cannot be used on this machine"),
        ({"numerics": "sloppy"}, "numerics must be 'reference' or 'fast', got 'sloppy'"),
    ],
)
def test_unknown_arguments_of_reading(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        MixtralForCausalLM.from_pretrained(folder, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "gguf"}, "layout must be one of classic, fused, got 'gguf'"),
        ({"dtype": "float8"}, "dtype must be one of .* got 'float8'"),
        (
            {"max_shard_size": "5 elephants"},
            "max_shard_size must be a number of bytes, or .* '5GB' .* got '5 elephants'",
        ),
        ({"max_shard_size": 0}, "got 0"),
    ],
)
def test_unknown_arguments_of_writing(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        toy_model().save_pretrained(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_saving_onto_a_file_or_without_weights(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"got the file .*; choose another name"):
        toy_model().save_pretrained(tmp_path / "file")
    with pytest.raises(InputError, match="meta device has no weights to save"):
        toy_model().to("meta").save_pretrained(tmp_path / "out")


def test_full_disk_is_seen_before_writing(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"needs .* GB of free disk space, got 1e-06 GB"):
        toy_model().save_pretrained(tmp_path)


def test_model_that_does_not_fit_is_refused_with_its_size(folder, monkeypatch):
    """Mixtral-8x7B has 46,702,792,704 parameters: 186.81 GB in float32, 93.41 GB in bfloat16."""
    monkeypatch.setattr(memory, "available_bytes", lambda device: 24 * 10**9)
    message = (
        r"46\.70 billion parameters in float32 take 186\.81 GB and cpu has 24\.00 GB free; use dtype='bfloat16', .*meta"
    )
    with pytest.raises(InputError, match=message):
        MixtralForCausalLM(MixtralConfig())
    with pytest.raises(InputError, match=r"in bfloat16 take 93\.41 GB .* free; use a larger machine"):
        memory.require_memory(MixtralConfig().num_parameters(), torch.bfloat16, torch.device("cpu"))
    monkeypatch.setattr(memory, "available_bytes", lambda device: None if device.type == "meta" else 1000)
    refused(folder, r"take 0\.00 GB and cpu has 0\.00 GB free")
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    MixtralForCausalLM.from_pretrained(folder)


def test_huge_model_on_the_meta_device_is_allowed():
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(hidden_size=4096, num_hidden_layers=2))
    assert model.lm_head.weight.is_meta


def test_free_memory_of_machine_and_container(tmp_path, monkeypatch):
    free = memory.available_bytes(torch.device("cpu"))
    assert free is None or free > 10**6
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 600\nfile 300\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes(torch.device("cpu")) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(torch.device("cpu")) != 400
    assert memory.available_bytes(torch.device("meta")) is None
