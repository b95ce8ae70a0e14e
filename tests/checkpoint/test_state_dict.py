"""State dicts of transformers, in the names of both layouts, are taken by our models."""

import copy
import io

import pytest
import torch
from safetensors.torch import load_file, save_file

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig, MixtralForCausalLM, MixtralModel
from tests.support.models import TOY, reference_model, toy_model

IDS = torch.arange(10)[None]


def fresh(numerics="reference", **changes):
    return MixtralForCausalLM(MixtralConfig(**TOY | changes), numerics).eval()


def classic(theirs, folder):
    """What transformers writes: the names of the classic layout."""
    theirs.save_pretrained(folder, save_original_format=True)
    weights = load_file(folder / "model.safetensors")
    assert "model.layers.0.block_sparse_moe.experts.0.w1.weight" in weights
    return weights


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("experts", [12, 1])
def test_both_layouts(tmp_path, tied, assign, experts):
    changes = {"tie_word_embeddings": tied, "num_local_experts": experts, "num_experts_per_tok": min(3, experts)}
    theirs = reference_model(**changes)
    expected = theirs(IDS).logits
    for weights in (theirs.state_dict(), classic(theirs, tmp_path)):
        names = list(weights)
        ours = fresh(**changes)
        assert str(ours.load_state_dict(weights, assign=assign)) == "<All keys matched successfully>"
        assert torch.equal(ours(IDS).logits, expected)
        assert (ours.lm_head.weight is ours.model.embed_tokens.weight) is tied
        assert list(weights) == names  # the caller's dict is as it was


def test_the_decoder_stack(tmp_path):
    theirs = reference_model()
    expected = theirs.model(IDS).last_hidden_state
    of_a_base_model = theirs.model.state_dict()
    of_its_model = {name: w for name, w in theirs.state_dict().items() if not name.startswith("lm_head")}
    for weights in (of_a_base_model, of_its_model):
        ours = MixtralModel(MixtralConfig(**TOY), "reference")
        ours.load_state_dict(weights)
        assert torch.equal(ours(IDS).last_hidden_state, expected)


def test_inside_another_module():
    theirs, ours = reference_model(), torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": fresh()})
    weights = {f"b.{name}": w for name, w in theirs.state_dict().items()} | {"a.weight": torch.eye(2)}
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["a.bias"], [])
    assert torch.equal(ours["b"](IDS).logits, theirs(IDS).logits)


def test_what_does_not_fit_is_named(tmp_path):
    weights = classic(reference_model(), tmp_path)
    name = "model.layers.1.block_sparse_moe.experts.7.w3.weight"
    with pytest.raises(InputError, match=r"layer 1, expert 7: w3 must have the shape \[20, 24\] .*, got \[1, 24\]"):
        fresh().load_state_dict(weights | {name: weights[name][:1]})
    del weights[name]
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.1\.block_sparse_moe\.experts\.gate_up_proj"):
        fresh().load_state_dict(weights)


@pytest.mark.parametrize("tied", [False, True])
def test_our_own_state_dict_can_be_saved_and_read(tmp_path, tied):
    model = toy_model(tie_word_embeddings=tied)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    again = fresh("fast", tie_word_embeddings=tied)
    again.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert ("lm_head.weight" in model.state_dict()) is not tied


def test_copies_and_pickles_take_them_too():
    theirs, file = reference_model(), io.BytesIO()
    torch.save(fresh(), file)
    file.seek(0)
    for ours in (copy.deepcopy(fresh()), torch.load(file, weights_only=False)):
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(IDS).logits, theirs(IDS).logits)


def test_heads():
    model = mp.MixtralForQuestionAnswering(MixtralConfig(**TOY))
    weights = {name.replace("block_sparse_moe", "mlp"): w + 1 for name, w in model.state_dict().items()}
    model.load_state_dict(weights)
    assert torch.equal(model.qa_outputs.bias, weights["qa_outputs.bias"])
