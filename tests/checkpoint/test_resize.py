"""Another vocabulary size, against transformers, and heads taken out, against heads that are silenced."""

import json

import pytest
import torch
import transformers

from mixtral_probe import InputError, MixtralConfig, MixtralForCausalLM, MixtralForSequenceClassification, MixtralModel
from mixtral_probe.model import Instrument, Site
from mixtral_probe.run import attention_plan
from tests.support.models import everything, reference_model, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(40)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [53, 40, 50])
def test_old_rows_stay_and_new_ones_are_near_the_mean(tied, size):
    model, before = toy_model(tie_word_embeddings=tied), toy_model(tie_word_embeddings=tied)
    embedding = model.resize_token_embeddings(size)
    assert embedding is model.model.embed_tokens
    assert (model.config.vocab_size, model.model.config.vocab_size, embedding.num_embeddings) == (size,) * 3
    assert (model.lm_head.weight is embedding.weight) == tied
    for new, old in (
        (embedding.weight, before.model.embed_tokens.weight),
        (model.lm_head.weight, before.lm_head.weight),
    ):
        assert new.shape == (size, 24)
        assert torch.equal(new[: min(size, 50)], old[:size])
        assert (new[50:] - old.mean(0)).abs().max() < 1e-4 if size > 50 else True
    out = model(IDS).logits
    assert out.shape == (2, 9, size)
    assert torch.allclose(out[..., :40], before(IDS).logits[..., :40], atol=1e-6)


def test_new_rows_have_the_moments_that_transformers_gives_them(monkeypatch):
    """Its covariance is told by drawing many rows from both; at a billionth of it, float32 would show only rounding."""
    from mixtral_probe.model.resizing import vocabulary

    monkeypatch.setattr(vocabulary, "COVARIANCE_SHARE", 1.0)
    torch.manual_seed(0)
    model, old = toy_model(), toy_model().model.embed_tokens.weight.detach()
    new = model.resize_token_embeddings(20_050).weight[50:].detach()
    centred = old - old.mean(0)
    assert torch.allclose(new.mean(0), old.mean(0), atol=4 * 0.1 / 20_000**0.5)
    assert torch.allclose(torch.cov(new.T, correction=0), centred.T @ centred / 50, atol=1e-3)
    assert vocabulary.COVARIANCE_SHARE == 1.0


def test_transformers_agrees_where_nothing_is_drawn():
    theirs, ours = reference_model(), toy_model()
    theirs.resize_token_embeddings(60)
    ours.resize_token_embeddings(60)
    expected = theirs.model.embed_tokens.weight
    assert torch.allclose(ours.model.embed_tokens.weight, expected, atol=2e-5)
    assert torch.allclose(ours.lm_head.weight, theirs.lm_head.weight, atol=2e-5)


def test_without_the_mean():
    torch.manual_seed(0)
    model = toy_model()
    rows = model.resize_token_embeddings(1050, mean_resizing=False).weight[50:]
    assert abs(rows.mean()) < 0.005
    assert abs(rows.std() - 0.1) < 0.005  # initializer_range


def test_resized_models_are_saved_and_classifiers_grow_too(tmp_path):
    model = toy_model()
    model.resize_token_embeddings(64)
    model.save_pretrained(tmp_path)
    read = transformers.MixtralForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(read.lm_head.weight, model.lm_head.weight)
    classifier = MixtralForSequenceClassification(model.config)
    assert classifier.resize_token_embeddings(70).weight.shape == (70, 24)
    base = MixtralModel(model.config)
    assert base.resize_token_embeddings(30).weight.shape == (30, 24)
    assert base.config.vocab_size == 30


def test_frozen_stays_frozen_and_padding_stays_untrained():
    model = toy_model(pad_token_id=0)
    model.model.embed_tokens.weight.requires_grad_(False)
    assert not model.resize_token_embeddings(60).weight.requires_grad
    model.model.embed_tokens.weight.requires_grad_(True)
    model(torch.tensor([[0, 1, 2]]), labels=torch.tensor([[0, 1, 2]])).loss.backward()
    assert not model.model.embed_tokens.weight.grad[0].any()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, r"a whole number of at least 1, got 0"),
        (3.5, r"a whole number of at least 1, got 3\.5"),
        (40, r"above the config's pad_token_id, 45, got 40"),
    ],
)
def test_sizes_that_cannot_be(size, message):
    with pytest.raises(InputError, match=message):
        toy_model(pad_token_id=45).resize_token_embeddings(size)


class Silence(Instrument):
    """Sets the output of some heads to zero."""

    def __init__(self, heads):
        self.chosen = heads

    def wants(self, site, layer):
        return site is Site.HEAD_OUTPUT and layer in self.chosen

    def visit(self, site, layer, value, context):
        value = value.clone()
        value[:, :, self.chosen[layer]] = 0.0
        return value


@pytest.mark.parametrize("numerics", ["reference", "fast"])
@pytest.mark.parametrize(
    "heads", [{0: [1]}, {1: [0, 1]}, {0: [0, 2, 3], 1: [3]}, {0: []}], ids=["one", "a group", "most", "none"]
)
def test_pruned_heads_are_silent_heads(numerics, heads):
    whole, pruned = toy_model(numerics=numerics), toy_model(numerics=numerics)
    pruned.prune_heads(heads)
    silent = whole(IDS, instruments=(Silence(heads),)).logits
    assert torch.allclose(pruned(IDS).logits, silent, atol=1e-6)
    assert torch.allclose(whole(IDS).logits, silent, atol=1e-6) == (heads == {0: []})
    removed = sum(map(len, heads.values()))
    size = lambda model: sum(weight.numel() for weight in model.parameters())  # noqa: E731
    assert size(whole) - size(pruned) == removed * 2 * 8 * 24


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_heads_keep_their_numbers(numerics):
    whole, pruned = toy_model(numerics=numerics), toy_model(numerics=numerics)
    pruned.prune_heads({0: [1]})
    expected, found = everything(whole, IDS), everything(pruned, IDS)
    assert torch.allclose(found.attentions[0], expected.attentions[0][:, [0, 2, 3]], atol=1e-6)

    class Look(Instrument):
        def __init__(self):
            self.seen = {}

        def wants(self, site, layer):
            return layer == 0 and site in (Site.QUERY, Site.HEAD_OUTPUT, Site.ATTENTION_WEIGHTS)

        def heads(self, layer):
            return [1, 3]

        def visit(self, site, layer, value, context):
            self.seen[site] = value
            return value

    here, there = Look(), Look()
    whole(IDS, instruments=(here,))
    pruned(IDS, instruments=(there,))
    assert 3 in there.seen[Site.ATTENTION_WEIGHTS].heads
    assert 1 not in there.seen[Site.ATTENTION_WEIGHTS].heads
    assert not there.seen[Site.QUERY][:, 1].any()
    assert torch.allclose(there.seen[Site.QUERY][:, [0, 2, 3]], here.seen[Site.QUERY][:, [0, 2, 3]], atol=1e-6)
    assert not there.seen[Site.HEAD_OUTPUT][:, :, 1].any()
    other = [0, 2, 3]
    assert torch.allclose(
        there.seen[Site.HEAD_OUTPUT][:, :, other], here.seen[Site.HEAD_OUTPUT][:, :, other], atol=1e-6
    )


def test_pruning_twice_is_pruning_once():
    one, two = toy_model(), toy_model()
    one.prune_heads({0: [1, 2], 1: [0]})
    two.prune_heads({0: [2]})
    two.prune_heads({0: [1, 2], 1: [0]})
    assert one.config == two.config
    assert all(torch.equal(two.state_dict()[name], weight) for name, weight in one.state_dict().items())


def test_pruned_models_decode_train_and_are_saved(tmp_path):
    model = toy_model()
    model.prune_heads({0: [0, 1], 1: [3]})
    with torch.no_grad():
        first = model(IDS[:, :5], use_cache=True)
        second = model(IDS[:, 5:], past_key_values=first.past_key_values)
        assert torch.allclose(second.logits, model(IDS).logits[:, 5:], atol=1e-5)
    model(IDS, labels=IDS).loss.backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad.shape == (16, 24)

    model.save_pretrained(tmp_path)
    read = MixtralForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in model.state_dict().items())
    assert json.loads((tmp_path / "config.json").read_text())["heads_pruned"] == {"0": [0, 1], "1": [3]}

    theirs = transformers.MixtralForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(IDS).logits, model(IDS).logits, atol=1e-5)


def test_a_config_with_pruned_heads_builds_a_pruned_model():
    model = toy_model()
    model.prune_heads({1: [2]})
    again = MixtralForCausalLM(MixtralConfig.from_dict(json.loads(json.dumps(model.config.to_dict()))))
    assert again.state_dict().keys() == model.state_dict().keys()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({2: [0]}, r"layer must be in 0–1 \(this model has 2\), got 2"),
        ({0: [4]}, r"head must be in 0–3 \(this model has 4\), got 4"),
        ({0: [0, 1, 2, 3]}, r"a layer must keep a head, got all 4 heads of layer 0"),
    ],
)
def test_heads_that_cannot_go(heads, message):
    model = toy_model()
    with pytest.raises(InputError, match=message):
        model.prune_heads({1: [0]} | heads)
    assert model.model.layers[1].self_attn.heads == (0, 1, 2, 3)


def test_traces_leave_pruned_heads_out():
    model = toy_model()
    model.prune_heads({0: [1]})
    plan = attention_plan("all", model.config)
    assert plan.layers == {0: (0, 2, 3), 1: (0, 1, 2, 3)}
    assert attention_plan([0], model.config).layers == {0: (0, 2, 3)}
    with pytest.raises(InputError, match="attention exists for heads that are not pruned, got head 1 of layer 0"):
        attention_plan("0:0-2", model.config)
