"""Mistral's own layouts, written here by the inverse of what reading has to do, in numpy's terms and by hand."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mixtral_probe import Checkpoint, InputError, MixtralForCausalLM
from mixtral_probe.checkpoint.native import native_config
from tests.support.models import TOY, mask_of, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(50)
PARAMS = {
    "dim": 24, "n_layers": 2, "head_dim": 8, "hidden_dim": 20, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5,
    "vocab_size": 50, "rope_theta": 10000.0, "moe": {"num_experts_per_tok": 3, "num_experts": 12},
}  # fmt: skip
SPELT_AS_TRANSFORMERS = {
    **{name: TOY[name] for name in TOY if name not in ("initializer_range", "head_dim")},
    "rms_norm_eps": 1e-5, "sliding_window": "4096", "hidden_size": 24, "head_dim": 8,
}  # fmt: skip


def interleaved(weight, heads, head_dim=8):
    """Row 2i of a head is what the half-split layout has in row i, and row 2i + 1 what it has in row i + D/2."""
    new = torch.empty_like(weight)
    for head in range(heads):
        for i in range(head_dim // 2):
            new[head * head_dim + 2 * i] = weight[head * head_dim + i]
            new[head * head_dim + 2 * i + 1] = weight[head * head_dim + i + head_dim // 2]
    return new


def shared(model):
    """What both layouts name alike."""
    body, found = model.model, {}
    found["tok_embeddings.weight"], found["norm.weight"] = body.embed_tokens.weight, body.norm.weight
    found["output.weight"] = model.lm_head.weight
    for i, layer in enumerate(body.layers):
        attention = layer.self_attn
        found[f"layers.{i}.attention.wq.weight"] = interleaved(attention.q_proj.weight, 4)
        found[f"layers.{i}.attention.wk.weight"] = interleaved(attention.k_proj.weight, 2)
        found[f"layers.{i}.attention.wv.weight"] = attention.v_proj.weight
        found[f"layers.{i}.attention.wo.weight"] = attention.o_proj.weight
        found[f"layers.{i}.attention_norm.weight"] = layer.input_layernorm.weight
        found[f"layers.{i}.ffn_norm.weight"] = layer.post_attention_layernorm.weight
    return {name: weight.detach().clone() for name, weight in found.items()}


def expert(layer, e):
    """w1, w2, w3 of one expert."""
    experts = layer.block_sparse_moe.experts
    return experts.gate_up_proj[e, :20].detach(), experts.down_proj[e].detach(), experts.gate_up_proj[e, 20:].detach()


def torrent(model):
    found = shared(model)
    for i, layer in enumerate(model.model.layers):
        stem = f"layers.{i}.block_sparse_moe"
        found[f"{stem}.gate.weight"] = layer.block_sparse_moe.gate.weight.detach()
        parts = [expert(layer, e) for e in range(12)]
        found[f"{stem}.w1"] = torch.cat([w1 for w1, _, _ in parts])
        found[f"{stem}.w2"] = torch.cat([w2.t() for _, w2, _ in parts])
        found[f"{stem}.w3"] = torch.cat([w3 for _, _, w3 in parts])
    return found


def mistral(model):
    found = shared(model)
    for i, layer in enumerate(model.model.layers):
        stem = f"layers.{i}.feed_forward"
        found[f"{stem}.gate.weight"] = layer.block_sparse_moe.gate.weight.detach()
        for e in range(12):
            for name, weight in zip(("w1", "w2", "w3"), expert(layer, e), strict=True):
                found[f"{stem}.experts.{e}.{name}.weight"] = weight.contiguous()
    return found


def write_torrent(folder, weights, shards=8, params=PARAMS):
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    for shard in range(shards):
        part = {name: weight for i, (name, weight) in enumerate(weights.items()) if i % shards == shard}
        torch.save(part, folder / f"consolidated.{shard:02d}.pt")
    return folder


def write_mistral(folder, weights, params=PARAMS):
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    save_file(weights, folder / "consolidated.safetensors")
    return folder


WRITERS = {"torrent": lambda folder, model: write_torrent(folder, torrent(model)),
           "mistral": lambda folder, model: write_mistral(folder, mistral(model))}  # fmt: skip


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_the_same_model_comes_out(tmp_path, layout, numerics):
    model = toy_model(numerics=numerics)
    folder = WRITERS[layout](tmp_path / "native", model)
    checkpoint = Checkpoint(folder)
    assert checkpoint.layout == layout
    assert checkpoint.dtype is torch.float32
    read = MixtralForCausalLM.from_pretrained(folder, numerics=numerics)
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in model.state_dict().items())
    mask = mask_of([9, 5], 9, "left")
    with torch.no_grad():
        assert torch.equal(read(IDS, mask).logits, model(IDS, mask).logits)


def test_one_layer_of_the_torrent_is_read_alone(tmp_path):
    model = toy_model()
    weights = Checkpoint(WRITERS["torrent"](tmp_path / "native", model)).layer(1)
    own = model.model.layers[1].state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)


def test_read_and_saved_as_classic(tmp_path):
    model = toy_model()
    MixtralForCausalLM.from_pretrained(WRITERS["mistral"](tmp_path / "native", model)).save_pretrained(tmp_path / "hf")
    read = MixtralForCausalLM.from_pretrained(tmp_path / "hf")
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in model.state_dict().items())


def test_shards_may_repeat_a_tensor_but_not_contradict_each_other(tmp_path):
    model = toy_model()
    folder = WRITERS["torrent"](tmp_path / "native", model)
    norm = {"norm.weight": model.model.norm.weight.detach()}
    torch.save(norm, folder / "consolidated.08.pt")
    MixtralForCausalLM.from_pretrained(folder)
    torch.save({"norm.weight": norm["norm.weight"] + 1}, folder / "consolidated.08.pt")
    with pytest.raises(InputError, match=r"stored once, got norm\.weight in consolidated\.08\.pt and norm\.weight in"):
        MixtralForCausalLM.from_pretrained(folder)


def test_hugging_face_files_beside_native_ones_count(tmp_path):
    toy_model(seed=1).save_pretrained(tmp_path)
    write_mistral(tmp_path, mistral(toy_model(seed=2)))
    assert Checkpoint(tmp_path).layout == "classic"


@pytest.mark.parametrize("params", [PARAMS, SPELT_AS_TRANSFORMERS], ids=["mistral", "transformers"])
def test_params_in_both_spellings(tmp_path, params):
    (tmp_path / "params.json").write_text(json.dumps(params))
    config = native_config(tmp_path / "params.json")
    sizes = {name: TOY[name] for name in TOY if name != "initializer_range"}
    assert {name: getattr(config, name) for name in sizes} == sizes
    assert config.sliding_window == (None if params is PARAMS else 4096)


def test_params_of_the_8x7b_release(tmp_path):
    fields = {
        "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
        "norm_eps": 1e-05, "vocab_size": 32000, "moe": {"num_experts_per_tok": 2, "num_experts": 8},
    }  # fmt: skip
    (tmp_path / "params.json").write_text(json.dumps(fields))
    config = native_config(tmp_path / "params.json")
    assert config.num_parameters() == 46_702_792_704
    assert (config.rope_theta, config.max_position_embeddings, config.sliding_window) == (1e6, 32768, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"weights in a layout of Mistral need a params\.json beside them, got none at"),
        ("{", r"params\.json must be valid JSON"),
        ('{"dim": [], "moe": 7}', r"params\.json must describe a Mixtral model, got .* with an error: "),
        ("[]", r"params\.json must hold one JSON object, got .* with a list"),
        (json.dumps({k: v for k, v in PARAMS.items() if k != "dim"}), r"must give dim \(or hidden_size\), got neither"),
        (
            json.dumps({k: v for k, v in PARAMS.items() if k != "moe"}),
            r"must give num_experts \(or num_local_experts\)",
        ),
    ],
)
def test_broken_params(tmp_path, content, message):
    folder = write_mistral(tmp_path / "native", mistral(toy_model()))
    (folder / "params.json").unlink()
    if content is not None:
        (folder / "params.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Checkpoint(folder)


def test_a_config_json_will_do(tmp_path):
    model = toy_model()
    folder = write_mistral(tmp_path / "native", mistral(model))
    (folder / "params.json").unlink()
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    assert Checkpoint(folder).config.num_local_experts == 12


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path, capsys):
    folder = write_torrent(tmp_path / "native", torrent(toy_model()), shards=1)
    torch.save({"norm.weight": Harmful()}, folder / "consolidated.00.pt")
    with pytest.raises(InputError, match=r"must be a whole file of weights and nothing else"):
        Checkpoint(folder)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "must be a whole file of weights and nothing else"),
        (lambda path: torch.save([torch.ones(1)], path), "must hold tensors by their names"),
        (lambda path: torch.save({"norm.weight": torch.ones(24)}, path), r"with a tok_embeddings\.weight, got none in"),
    ],
)
def test_broken_shards(tmp_path, damage, message):
    folder = write_torrent(tmp_path / "native", torrent(toy_model()), shards=1)
    damage(folder / "consolidated.00.pt")
    with pytest.raises(InputError, match=message):
        Checkpoint(folder)


def test_missing_and_misshapen_tensors_are_placed(tmp_path):
    weights = torrent(toy_model())
    flat = weights.pop("layers.1.block_sparse_moe.w2")
    with pytest.raises(InputError, match=r"layer 1: block_sparse_moe\.w2 is missing"):
        Checkpoint(write_torrent(tmp_path / "a", weights))
    weights["layers.1.block_sparse_moe.w2"] = flat[:-1]
    with pytest.raises(InputError, match=r"w2 must have the shape \[240, 24\] by config\.json, got \[239, 24\]"):
        Checkpoint(write_torrent(tmp_path / "b", weights))
