"""Weights with other names, too many or too few of them, or in fewer bits: read as transformers does, or named."""

import json
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mixtral_probe import Checkpoint, InputError, MixtralForCausalLM, MixtralForSequenceClassification, MixtralModel
from mixtral_probe.model.attention.rope import Rope
from tests.support.models import reference_model, toy_model

IDS = torch.arange(3, 15)[None]


def change(folder, edit, **config):
    """Rewrite the weights of a single file, and fields of the config."""
    weights = load_file(folder / "model.safetensors")
    weights = edit(weights) or weights
    save_file({name: w.contiguous() for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | config))


def refused(folder, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        MixtralForCausalLM.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def both(folder, sentence=None):
    """Our logits and those of transformers, where our reading warns with a sentence."""
    theirs = transformers.MixtralForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    if sentence is None:
        ours = MixtralForCausalLM.from_pretrained(folder, numerics="reference")
    else:
        with pytest.warns(UserWarning, match=sentence):
            ours = MixtralForCausalLM.from_pretrained(folder, numerics="reference")
    with torch.no_grad():
        return ours, ours(IDS).logits, theirs.eval()(IDS).logits


@pytest.fixture
def tied(tmp_path):
    reference_model(tie_word_embeddings=True, std=0.3).save_pretrained(tmp_path)
    return tmp_path


def test_a_head_that_differs_from_the_tied_embedding_is_kept(tied, tmp_path):
    head = torch.randn(50, 24, generator=torch.Generator().manual_seed(5))
    change(tied, lambda weights: weights.update({"lm_head.weight": head}))
    sentence = r"lm_head\.weight in model\.safetensors differs from model\.embed_tokens\.weight, so they are not tied"
    model, ours, theirs = both(tied, sentence)
    assert torch.equal(model.lm_head.weight, head)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(MixtralForCausalLM.from_pretrained(tmp_path / "again").lm_head.weight, head)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_equal_to_the_tied_embedding_is_tied(tied, dtype):
    def add(weights):
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
        return weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}

    change(tied, add)
    model, ours, theirs = both(tied)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_head_of_another_shape_is_named(tied):
    change(tied, lambda weights: weights.update({"lm_head.weight": torch.zeros(51, 24)}))
    with pytest.warns(UserWarning, match="so they are not tied"):
        refused(tied, r"lm_head\.weight must have the shape \[50, 24\] by config\.json, got \[51, 24\]")


def test_frequencies_that_are_not_those_of_the_config_are_named(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    right = Rope(model.config).frequencies(torch.empty(0))
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    for stored in (right, right.bfloat16()):
        change(tmp_path, lambda weights, stored=stored: weights.update({name: stored.clone()}))
        MixtralForCausalLM.from_pretrained(tmp_path)
    change(tmp_path, lambda weights: weights.update({name: 2 * right}))
    with pytest.warns(UserWarning, match=r"layers\.1\S+inv_freq in .* differs from the rotary .* \(rope_theta 10000\)"):
        MixtralForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"model.layers.0.self_attn.k_scale": (1,)}, r"which are not read: model\.layers\.0\.self_attn\.k_s"),
        ({"v_head.summary.weight": (1, 24), "v_head.summary.bias": (1,)}, r"v_head\.summary\.bias \(model\.s\S+\), v"),
        ({f"model.layers.{i}.self_attn.q_proj.bias": (32,) for i in (0, 1)}, r"q_proj\.bias"),
        ({f"model.extra_{i}.weight": (2,) for i in range(9)}, "and 6 more"),
    ],
)  # fmt: skip
def test_tensors_without_a_place_are_named_and_left_out(tmp_path, extra, sentence):
    reference_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: weights.update({name: torch.ones(shape) for name, shape in extra.items()}))
    _, ours, theirs = both(tmp_path, sentence)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_fewer_layers_in_the_config_than_in_the_files(tmp_path):
    reference_model(num_hidden_layers=4).save_pretrained(tmp_path)
    change(tmp_path, lambda weights: None, num_hidden_layers=2)
    model, ours, theirs = both(tmp_path, r"layers 2–3 of .* are not read, since its config says num_hidden_layers 2")
    assert len(model.model.layers) == 2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_more_layers_in_the_config_than_in_the_files(tmp_path):
    toy_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: None, num_hidden_layers=40)
    refused(tmp_path, r"must have the weights of 40 layers, as its config says, got 2 of them \(the last is layer 1\)")


def test_a_whole_layer_that_is_missing_in_between(tmp_path):
    toy_model(num_hidden_layers=3).save_pretrained(tmp_path)
    change(tmp_path, lambda weights: {name: w for name, w in weights.items() if ".layers.1." not in name})
    refused(tmp_path, "layer 1: .* is missing: .* download it again")


def test_weights_of_another_architecture(tmp_path):
    toy_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: {"transformer.h.0.attn.c_attn.weight": torch.ones(2)})
    refused(tmp_path, r"must have the names of a Mixtral, got transformer\.h\.0")


PREFIXES = [
    "_orig_mod.", "module.", "module._orig_mod.", "base_model.model.", "pretrained_model.", "_fsdp_wrapped_module.",
    "policy.inner.", "model.module.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", ["classic", "fused"])
def test_a_prefix_of_all_names(tmp_path, prefix, layout):
    model = toy_model()
    model.save_pretrained(tmp_path, layout=layout)
    change(tmp_path, lambda weights: {prefix + name: weight for name, weight in weights.items()})
    again = MixtralForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in model.state_dict().items())


def test_prefixes_in_shards_with_an_index(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path, max_shard_size=30_000)
    for file in tmp_path.glob("model-*.safetensors"):
        save_file({f"module.{name}": weight for name, weight in load_file(file).items()}, file)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({"weight_map": {f"module.{k}": v for k, v in index["weight_map"].items()}}))
    again = MixtralForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in model.state_dict().items())


def test_wrappers_within_the_names_and_a_value_head(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)

    def wrapped(weights):
        names = {name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module.") for name in weights}
        renamed = {f"pretrained_model.{names[name]}": weight for name, weight in weights.items()}
        return renamed | {"v_head.summary.weight": torch.ones(1, 24)}

    change(tmp_path, wrapped)
    with pytest.warns(UserWarning, match=r"no place for, which are not read: v_head\.summary\.weight \(model"):
        again = MixtralForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "name", ["q_proj.lora_A.default.weight", "v_proj.lora_embedding_B.x", "o_proj.modules_to_save.default.weight"]
)
def test_an_adapter_that_is_not_merged(tmp_path, name):
    toy_model().save_pretrained(tmp_path)

    def adapted(weights):
        names = {n: n.replace("q_proj.weight", "q_proj.base_layer.weight") for n in weights}
        renamed = {f"base_model.model.{names[n]}": weight for n, weight in weights.items()}
        return renamed | {f"base_model.model.model.layers.0.self_attn.{name}": torch.ones(2, 2)}

    change(tmp_path, adapted)
    refused(tmp_path, r"an adapter must be merged .*, got the tensor base_model\S+ beside them; .*merge_and_unload\(\)")


def test_an_adapter_beside_whole_weights_is_named(tmp_path):
    toy_model().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"has an adapter beside its weights .*, which is not applied; merge it"):
        MixtralForCausalLM.from_pretrained(tmp_path)


def test_two_models_in_one_file(tmp_path):
    toy_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: {f"{p}.{n}": w.clone() for n, w in weights.items() for p in ("policy", "reward")})
    refused(tmp_path, "weights must be of one model, got names that begin with 'policy.' and with 'reward.'")


def quantised(weights, suffixes):
    """Replace the weights of the experts by tensors of a quantised layout."""
    kept = {name: weight for name, weight in weights.items() if ".experts." not in name}
    for name in weights.keys() - kept.keys():
        stem = name.removesuffix(".weight")
        kept |= {f"{stem}.{suffix}": torch.zeros(2, 2, dtype=torch.int32) for suffix in suffixes}
    return kept


METHODS = [
    ({"quantization_config": {"quant_method": "awq", "bits": 4}}, ["qweight", "qzeros", "scales"], "AWQ, 4 bits"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, ["qweight", "g_idx"], "GPTQ, 3 bits"),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, ["weight_packed"], "compressed-tensors"),
    ({"compression_config": {"format": "pack-quantized"}}, ["weight_packed"], "pack-quantized"),
    (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, ["weight", "weight.absmax"],
        "bitsandbytes, 4 bits",
    ),
    ({"quantization_config": {"load_in_8bit": True}}, ["weight", "SCB"], "bitsandbytes, 8 bits"),
    ({"quantization": {"group_size": 64, "bits": 6}}, ["weight", "scales", "biases"], "MLX, 6 bits"),
    (
        {"quantization": {"bits": 4}, "quantization_config": {"bits": 4, "group_size": 32}},
        ["weight", "scales", "biases"], "MLX, 4 bits",
    ),
    ({"quantization_config": {"quant_method": "newest"}}, ["codes"], "newest"),
    ({}, ["qweight", "qzeros", "scales"], "AWQ or GPTQ"),
    ({}, ["weight_packed", "weight_scale"], "compressed-tensors"),
    ({}, ["weight", "SCB"], "bitsandbytes"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "suffixes", "words"), METHODS, ids=lambda value: str(value)[:60])
def test_quantised_weights_are_named(tmp_path, config, suffixes, words):
    toy_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: quantised(weights, suffixes), **config)
    refused(tmp_path, rf"got .* with weights quantised by {words}.*, which are not read; get the model that they were")


def test_the_layout_of_mlx_is_named(tmp_path):
    toy_model().save_pretrained(tmp_path)

    def stacked(weights):
        kept = {name: weight for name, weight in weights.items() if ".experts." not in name}
        return kept | {"model.layers.0.block_sparse_moe.switch_mlp.up_proj.weight": torch.ones(2, 2)}

    change(tmp_path, stacked)
    refused(tmp_path, "has the layout of MLX, which is not read; get the model that it was made from")


def test_heads_that_a_class_does_not_have_are_named(tmp_path):
    toy_model().save_pretrained(tmp_path)
    heads = {"score.weight": torch.ones(2, 24), "qa_outputs.weight": torch.ones(2, 24)}
    change(tmp_path, lambda weights: weights.update(heads))
    with pytest.warns(
        UserWarning, match=r"score\.weight and qa_outputs\.weight of .* are not read: MixtralForCausalLM has"
    ):
        MixtralForCausalLM.from_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"^qa_outputs\.weight of .* is not read: MixtralForSequenceClassification has no"
    ):
        MixtralForSequenceClassification.from_pretrained(tmp_path)
    MixtralModel.from_pretrained(tmp_path)


def test_eight_bit_floats_are_named(tmp_path):
    toy_model().save_pretrained(tmp_path)
    config = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    change(
        tmp_path, lambda weights: {n: w.to(torch.float8_e4m3fn) if w.dim() == 2 else w for n, w in weights.items()},
        **config,
    )  # fmt: skip
    refused(tmp_path, "quantised by FP8, which are not read")


def test_a_config_that_speaks_of_quantisation_beside_plain_weights_is_no_obstacle(tmp_path):
    toy_model().save_pretrained(tmp_path)
    change(tmp_path, lambda weights: None, quantization_config={"quant_method": "awq"})
    MixtralForCausalLM.from_pretrained(tmp_path)


@pytest.fixture
def shards(tmp_path):
    toy_model().save_pretrained(tmp_path, max_shard_size=30_000)
    return sorted(path.name for path in tmp_path.glob("model-*.safetensors"))


def test_shards_that_the_index_does_not_name(tmp_path, shards):
    save_file({"x": torch.ones(1)}, tmp_path / "model-00001-of-00099.safetensors")
    with pytest.warns(
        UserWarning, match=r"files of another save, .*: model-00001-of-00099\.safetensors \(.* does not name"
    ):
        MixtralForCausalLM.from_pretrained(tmp_path)
    (tmp_path / shards[1]).unlink()
    refused(
        tmp_path, rf"names {shards[1]}, which .* does not have; it has model-00001-of-00099\.safetensors, left over"
    )


def test_a_single_file_beside_shards(tmp_path, shards):
    everything = {name: w for file in shards for name, w in load_file(tmp_path / file).items()}
    save_file(everything, tmp_path / "model.safetensors")
    with pytest.warns(
        UserWarning, match=r"files of another save, .*: model\.safetensors\.index\.json, .* has all weights"
    ):
        MixtralForCausalLM.from_pretrained(tmp_path)


def test_two_saves_without_an_index(tmp_path, shards):
    (tmp_path / "model.safetensors.index.json").unlink()
    save_file({"x": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.warns(UserWarning, match=rf"not read: model-00002-of-00002\.safetensors \({shards[0]} to {shards[-1]}"):
        MixtralForCausalLM.from_pretrained(tmp_path)
    (tmp_path / shards[0]).unlink()
    refused(tmp_path, "must hold the shards of one save, got .* of 2, and no .* that says which count")


def test_a_tensor_in_two_shards_of_which_the_index_names_one(tmp_path, shards):
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    name = "model.norm.weight"
    other = next(file for file in shards if file != index[name])
    save_file(load_file(tmp_path / other) | {name: torch.ones(24)}, tmp_path / other)
    refused(tmp_path, rf"stored once, got .*index\.json says {index[name]}, so {other} is left over from another save")


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"weight_map": ["a"]}'])
def test_an_index_of_something_else(tmp_path, shards, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    refused(tmp_path, "must be a JSON object with a weight_map from names of tensors to names of files")


def test_a_file_that_was_cut_short_says_how_much_is_missing(tmp_path):
    toy_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:60_000])
    refused(tmp_path, rf"must be a whole safetensors file, got 60,000 of its {size:,} bytes; download or copy it again")
    path.write_bytes(b"<!DOCTYPE html><html>Not found</html>")
    refused(tmp_path, r"must be a whole safetensors file, got 37 bytes of something else")


def test_a_sound_folder_warns_of_nothing(tmp_path):
    toy_model().save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Checkpoint(tmp_path)
