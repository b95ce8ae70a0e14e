import json
import stat
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mixtral_probe import Checkpoint, InputError, MixtralForCausalLM, MixtralModel, Tokenizer
from mixtral_probe.checkpoint.names import pieces
from mixtral_probe.resources import data_path
from tests.support.models import toy_model


def same_weights(one, other) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in the files, read by the safetensors library."""
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


@pytest.mark.parametrize("layout", ["classic", "fused"])
@pytest.mark.parametrize("size", [None, 30_000])
@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_read_again(tmp_path, layout, size, tied):
    model = toy_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "m", layout=layout, max_shard_size=size)
    again = MixtralForCausalLM.from_pretrained(tmp_path / "m")
    assert same_weights(model, again)
    assert not again.training
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert ("lm_head.weight" in stored(tmp_path / "m")) == (not tied)
    assert Checkpoint(tmp_path / "m").layout == layout


def test_classic_names_shapes_and_halves(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    found, experts = stored(tmp_path), model.model.layers[1].block_sparse_moe.experts
    prefix = "model.layers.1.block_sparse_moe.experts.10"
    assert torch.equal(found[f"{prefix}.w1.weight"], experts.gate_up_proj[10, :20])
    assert torch.equal(found[f"{prefix}.w3.weight"], experts.gate_up_proj[10, 20:])
    assert torch.equal(found[f"{prefix}.w2.weight"], experts.down_proj[10])
    assert found[f"{prefix}.w2.weight"].shape == (24, 20)
    assert len(found) == 3 + 2 * (6 + 1 + 12 * 3)


def test_fused_names(tmp_path):
    toy_model().save_pretrained(tmp_path, layout="fused")
    found = stored(tmp_path)
    assert found["model.layers.0.mlp.gate.weight"].shape == (12, 24)
    assert found["model.layers.0.mlp.experts.gate_up_proj"].shape == (12, 40, 24)
    assert found["model.layers.0.mlp.experts.down_proj"].shape == (12, 24, 20)


def test_index_counts_bytes_and_names_every_tensor(tmp_path):
    toy_model().save_pretrained(tmp_path, max_shard_size="30KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    found = stored(tmp_path)
    assert index["weight_map"].keys() == found.keys()
    assert index["metadata"]["total_size"] == sum(4 * t.numel() for t in found.values())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    for file in files:
        with safe_open(tmp_path / file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            assert sum(found[name].numel() * 4 for name in opened.keys()) <= 30_000  # noqa: SIM118
    assert not (tmp_path / "model.safetensors").exists()


def test_shards_are_read_without_their_index(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path, max_shard_size=30_000)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_tensors_of_one_expert_in_different_shards(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    everything = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(everything)  # as text: expert 10 before expert 2
    weight_map = {name: f"part{i % 3}.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: everything[name] for name in names if weight_map[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_rotary_frequencies_of_old_checkpoints_are_ignored(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    everything = load_file(tmp_path / "model.safetensors")
    frequencies = 10_000.0 ** (-torch.arange(0, 8, 2) / 8)
    everything["model.layers.0.self_attn.rotary_emb.inv_freq"] = frequencies
    save_file(everything, tmp_path / "model.safetensors")
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_tied_checkpoint_that_kept_only_its_head(tmp_path):
    model = toy_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    everything = load_file(tmp_path / "model.safetensors")
    everything["lm_head.weight"] = everything.pop("model.embed_tokens.weight")
    save_file(everything, tmp_path / "model.safetensors")
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_base_model_saves_without_prefix_and_reads_both_kinds(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path / "causal")
    base = MixtralModel.from_pretrained(tmp_path / "causal")
    assert same_weights(model.model, base)
    base.save_pretrained(tmp_path / "base")
    assert "embed_tokens.weight" in stored(tmp_path / "base")
    assert same_weights(base, MixtralModel.from_pretrained(tmp_path / "base"))
    assert json.loads((tmp_path / "base" / "config.json").read_text())["architectures"] == ["MixtralModel"]


def test_one_layer_reads_only_its_own_weights(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path, max_shard_size=30_000)
    checkpoint = Checkpoint(tmp_path)
    weights = checkpoint.layer(1)
    layer = model.model.layers[1]
    assert weights.keys() == layer.state_dict().keys()
    assert all(torch.equal(weights[name], weight) for name, weight in layer.state_dict().items())
    with torch.device("meta"):
        empty = type(layer)(model.config, 1, "fast")
    empty.load_state_dict(weights, assign=True)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    of_layer_0 = {file for name, file in index.items() if ".layers.0." in name}
    of_layer_1 = {file for name, file in index.items() if ".layers.1." in name}
    for file in of_layer_0 - of_layer_1:
        (tmp_path / file).unlink()
    assert checkpoint.layer(1).keys() == weights.keys()


def test_names_shapes_and_single_tensors(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    assert set(checkpoint.names) == set(model.state_dict())
    name = "model.layers.0.block_sparse_moe.experts.gate_up_proj"
    assert checkpoint.shape(name) == (12, 40, 24)
    assert torch.equal(checkpoint.tensor(name), model.state_dict()[name])
    assert checkpoint.tensor(name, torch.bfloat16, "meta").dtype is torch.bfloat16


def test_weights_do_not_depend_on_the_files_once_read(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    again = MixtralForCausalLM.from_pretrained(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.write(b"\0" * 100_000)
    assert same_weights(model, again)


def test_dtypes(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path, dtype="bfloat16")
    assert stored(tmp_path)["lm_head.weight"].dtype is torch.bfloat16
    fields = json.loads((tmp_path / "config.json").read_text())
    assert (fields["dtype"], fields["torch_dtype"]) == ("bfloat16", "bfloat16")

    def kind(dtype):
        read = MixtralForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        return {weight.dtype for weight in read.parameters()}

    assert kind(None) == {torch.float32}
    assert kind("auto") == {torch.bfloat16}
    assert kind("float16") == kind(torch.float16) == {torch.float16}
    rounded = MixtralForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(rounded.lm_head.weight, model.lm_head.weight.bfloat16().float())


def test_mixed_files_are_read_in_the_dtype_of_most(tmp_path):
    model = toy_model().bfloat16()
    model.save_pretrained(tmp_path)
    everything = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.block_sparse_moe.gate.weight"
    everything[name] = everything[name].float()
    save_file(everything, tmp_path / "model.safetensors")
    read = MixtralForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert {weight.dtype for weight in read.parameters()} == {torch.bfloat16}


def test_meta_device_gives_the_model_without_weights(tmp_path):
    toy_model().save_pretrained(tmp_path)
    model = MixtralForCausalLM.from_pretrained(tmp_path, device="meta", dtype="bfloat16")
    assert all(weight.is_meta and weight.dtype is torch.bfloat16 for weight in model.parameters())


def test_saving_again_leaves_no_old_weights_and_touches_nothing_else(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    toy_model(seed=1).save_pretrained(tmp_path, max_shard_size=30_000)
    model = toy_model(seed=2)
    model.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "config.json", "generation_config.json", "model.safetensors"}
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))
    toy_model(seed=3).save_pretrained(tmp_path, max_shard_size=30_000)
    assert not (tmp_path / "model.safetensors").exists()
    assert not same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_saving_over_the_folder_it_came_from(tmp_path):
    toy_model().save_pretrained(tmp_path)
    model = MixtralForCausalLM.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path, layout="fused")
    assert same_weights(model, MixtralForCausalLM.from_pretrained(tmp_path))


def test_a_save_that_fails_leaves_the_old_model(tmp_path, monkeypatch):
    from mixtral_probe.checkpoint import save

    model = toy_model(seed=1)
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write, calls = save.write_safetensors, []

    def fail_at_the_second(path, tensors, dtype):
        calls.append(path)
        if len(calls) == 2:
            raise OSError("disk gone")
        write(path, tensors, dtype)

    monkeypatch.setattr(save, "write_safetensors", fail_at_the_second)
    with pytest.raises(InputError, match="must be writable, got 'disk gone'"):
        toy_model(seed=2).save_pretrained(tmp_path, max_shard_size=30_000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_saved_files_are_readable_like_any_other(tmp_path):
    toy_model().save_pretrained(tmp_path / "m")
    (tmp_path / "plain").write_text("")
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()} == {expected}


def test_file_begins_with_an_aligned_header(tmp_path):
    """The last bits of a product depend on how memory is aligned, and some readers map the file."""
    toy_model().save_pretrained(tmp_path)
    (length,) = struct.unpack("<Q", (tmp_path / "model.safetensors").read_bytes()[:8])
    assert (8 + length) % 64 == 0


def test_the_embedded_model_has_a_name_of_its_own():
    checkpoint = Checkpoint("mini")
    assert checkpoint.folder.name == "mixtral-mini"
    assert Tokenizer.from_folder(checkpoint.folder).vocab_size == checkpoint.config.vocab_size


def test_data_that_is_not_installed_is_named():
    with pytest.raises(InputError, match="the bundled data 'nothing' is not part of this installation"):
        data_path("nothing")


def test_experts_are_cut_in_numeric_order():
    names = [piece.name for piece in pieces("x.experts.down_proj", (12, 3, 2), "classic")]
    assert names == [f"x.experts.{e}.w2.weight" for e in range(12)]
