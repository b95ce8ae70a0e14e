"""Classification and question answering against transformers, and the routing that transformers leaves out."""

import json

import pytest
import torch
import transformers

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig
from mixtral_probe.model import Instrument, load_balancing_loss_pooled
from tests.support.models import TOY, mask_of, randomise, toy_model

IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(49) + 1  # no padding among them
PAD = {"pad_token_id": 0}
KINDS = ("SequenceClassification", "TokenClassification", "QuestionAnswering")


def reference(kind, **changes):
    fields = TOY | PAD | changes
    theta = fields.pop("rope_theta")
    config = transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    model = getattr(transformers, f"MixtralFor{kind}")._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    randomise(model, 0)
    return model.eval()


def like(theirs, kind, numerics="reference"):
    config = MixtralConfig.from_dict(theirs.config.to_dict())
    model = getattr(mp, f"MixtralFor{kind}")(config, numerics)
    model.load_state_dict(theirs.state_dict())
    return model.eval()


def both(kind, ids=IDS, **arguments):
    changes = arguments.pop("config", {})
    theirs = reference(kind, **changes)
    with torch.no_grad():
        return theirs(ids, **arguments), like(theirs, kind)(ids, **arguments)


@pytest.mark.parametrize("side", ["left", "right"])
def test_sequences_are_read_at_their_rightmost_token(side):
    mask = mask_of([9, 4, 1], 9, side)
    expected, found = both("SequenceClassification", IDS * mask, attention_mask=mask, config={"num_labels": 5})
    assert found.logits.shape == (3, 5)
    assert torch.equal(found.logits, expected.logits)


def test_padding_inside_and_nothing_but_padding():
    ids = IDS.clone()
    ids[0, 3], ids[1] = 0, 0
    expected, found = both("SequenceClassification", ids)
    assert torch.equal(found.logits, expected.logits)


def test_one_sequence_needs_no_padding_token():
    expected, found = both("SequenceClassification", IDS[:1], config={"pad_token_id": None})
    assert torch.equal(found.logits, expected.logits)
    with pytest.raises(InputError, match=r"3 sequences need a pad_token_id in the config, .* got None"):
        like(reference("SequenceClassification", pad_token_id=None), "SequenceClassification")(IDS)


def test_embeddings_end_where_the_mask_says():
    model, mask = like(reference("SequenceClassification"), "SequenceClassification"), mask_of([9, 4, 1], 9, "right")
    embeds = model.model.embed_tokens(IDS * mask)
    with torch.no_grad():
        masked = model(inputs_embeds=embeds, attention_mask=mask).logits
        assert torch.equal(masked, model(IDS * mask, mask).logits)
        assert torch.equal(model(inputs_embeds=embeds).logits[0], masked[0])


LABELS = {
    "single": ({"num_labels": 4}, torch.tensor([0, 3, 2])),
    "two by default": ({}, torch.tensor([0, 1, 1])),
    "ignored": ({"num_labels": 4}, torch.tensor([0, -100, 2])),
    "several": ({"num_labels": 4}, torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])),
    "number": ({"num_labels": 1}, torch.tensor([0.5, -1.0, 3.0])),
    "numbers": ({"num_labels": 2, "problem_type": "regression"}, torch.tensor([[0.5, 1], [-1.0, 2], [3.0, 0]])),
    "said": ({"num_labels": 3, "problem_type": "single_label_classification"}, torch.tensor([2, 1, 0])),
}


@pytest.mark.parametrize("case", LABELS)
def test_losses_of_sequences(case):
    config, labels = LABELS[case]
    expected, found = both("SequenceClassification", labels=labels, config=config)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)


@pytest.mark.parametrize("bias", [True, False])
def test_tokens(bias):
    labels = IDS.remainder(5)
    labels[0, :3] = -100
    config = {"num_labels": 5, "token_classification_bias": bias}
    mask = mask_of([9, 4, 7], 9, "left")
    expected, found = both("TokenClassification", labels=labels, attention_mask=mask, config=config)
    kept = mask.bool()
    assert torch.equal(found.logits[kept], expected.logits[kept])
    expected, found = both("TokenClassification", labels=labels, config=config)
    assert torch.equal(found.loss, expected.loss)


@pytest.mark.parametrize(
    ("fields", "rate"), [({}, 0.1), ({"classifier_dropout": 0.0}, 0.0), ({"hidden_dropout": 0.3}, 0.3)]
)
def test_dropout_before_the_head_of_tokens(fields, rate):
    assert mp.MixtralForTokenClassification(MixtralConfig(**TOY | fields)).dropout.p == rate
    assert reference("TokenClassification", **fields).dropout.p == rate


def test_token_classification_in_training_is_the_reference_to_the_bit():
    theirs = reference("TokenClassification", classifier_dropout=0.5).train()
    ours = like(theirs, "TokenClassification").train()
    torch.manual_seed(1)
    expected = theirs(IDS).logits
    torch.manual_seed(1)
    assert torch.equal(ours(IDS).logits, expected)


@pytest.mark.parametrize("ends", [torch.tensor([8, 2, 3]), torch.tensor([[8], [20], [-1]])], ids=["inside", "outside"])
def test_answers(ends):
    starts = torch.tensor([1, 2, 0]).view(ends.shape)
    expected, found = both("QuestionAnswering", start_positions=starts, end_positions=ends)
    assert torch.equal(found.start_logits, expected.start_logits)
    assert torch.equal(found.end_logits, expected.end_logits)
    assert torch.equal(found.loss, expected.loss)


def labelled(kind):
    if kind == "QuestionAnswering":
        return {"start_positions": torch.tensor([1, 2, 0]), "end_positions": torch.tensor([4, 2, 8])}
    return {"labels": torch.tensor([0, 1, 1]) if kind == "SequenceClassification" else IDS.remainder(2)}


@pytest.mark.parametrize("kind", KINDS)
def test_routing_and_its_loss_come_back(kind):
    theirs = reference(kind, router_aux_loss_coef=0.3)
    causal = reference("CausalLM")
    causal.load_state_dict(theirs.state_dict(), strict=False)  # the same decoder
    with torch.no_grad():
        expected = theirs(IDS, **labelled(kind)).loss
        routing = causal(IDS, output_router_logits=True)
        found = like(theirs, kind)(IDS, output_router_logits=True, **labelled(kind))
    assert all(torch.equal(a, b) for a, b in zip(found.router_logits, routing.router_logits, strict=True))
    assert abs(found.aux_loss - routing.aux_loss) < 1e-6
    assert abs(found.loss - (expected + 0.3 * routing.aux_loss)) < 1e-6
    assert like(theirs, kind)(IDS).router_logits is None


def test_padding_is_left_out_of_the_balance_loss():
    model, mask = like(reference("TokenClassification"), "TokenClassification"), mask_of([9, 4, 1], 9, "right")
    with torch.no_grad():
        out = model(IDS, mask, output_router_logits=True)
        assert torch.equal(out.aux_loss, load_balancing_loss_pooled(out.router_logits, 3, mask))


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_outputs(kind):
    theirs = reference(kind)
    with torch.no_grad():
        expected = theirs(IDS, output_attentions=True, output_hidden_states=True)
        found = like(theirs, kind)(IDS, output_attentions=True, output_hidden_states=True, use_cache=True)
    assert all(torch.equal(a, b) for a, b in zip(found.attentions, expected.attentions, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found.hidden_states, expected.hidden_states, strict=True))
    assert len(found.past_key_values) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_tuples_begin_as_those_of_transformers(kind):
    theirs = reference(kind)
    asked = {"return_dict": False, "output_attentions": True, "use_cache": False} | labelled(kind)
    with torch.no_grad():
        expected = theirs(IDS, **asked)
        found = like(theirs, kind)(IDS, **asked, output_router_logits=True)
    assert len(found) == len(expected) + 2
    assert all(torch.equal(a, b) for a, b in zip(found[1:-3], expected[1:-1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found[-3], expected[-1], strict=True))


class Seen(Instrument):
    def __init__(self):
        self.sites = []

    def wants(self, site, layer):
        return True

    def visit(self, site, layer, value, context):
        self.sites.append((str(site), layer))
        return value


@pytest.mark.parametrize("kind", KINDS)
def test_instruments_see_everything_once(kind):
    seen = Seen()
    like(reference(kind), kind)(IDS, instruments=(seen,))
    assert seen.sites.count(("routing", 1)) == 1
    assert seen.sites[-1] == ("logits", -1)


@pytest.mark.parametrize("kind", KINDS)
def test_ours_to_transformers_and_back(tmp_path, kind):
    theirs = reference(kind, num_labels=3)
    ours = like(theirs, kind)
    ours.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [f"MixtralFor{kind}"]
    read = getattr(transformers, f"MixtralFor{kind}").from_pretrained(tmp_path / "ours")
    assert read.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(read.state_dict()[name], w) for name, w in theirs.state_dict().items())
    theirs.save_pretrained(tmp_path / "theirs")
    again = getattr(mp, f"MixtralFor{kind}").from_pretrained(tmp_path / "theirs")
    assert all(torch.equal(again.state_dict()[name], w) for name, w in ours.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [False, True], ids=["language model", "base model"])
def test_a_new_head_says_so(tmp_path, kind, base):
    model = toy_model()
    model.save_pretrained(tmp_path)
    if base:
        mp.MixtralModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"(is|are) not in .*: this head has random weights and must be trained"
    ) as said:
        read = getattr(mp, f"MixtralFor{kind}").from_pretrained(tmp_path, num_labels=7)
    assert len(said) == 1
    assert torch.equal(read.model.norm.weight, model.model.norm.weight)
    head = read.qa_outputs if kind == "QuestionAnswering" else read.score
    assert head.weight.shape == (2 if kind == "QuestionAnswering" else 7, 24)
    assert 0.05 < head.weight.std() < 0.2  # initializer_range is 0.1
    assert head.bias is None or not head.bias.any()


def test_a_head_is_dropped_by_the_base_model(tmp_path):
    model = like(reference("TokenClassification"), "TokenClassification")
    model.save_pretrained(tmp_path)
    base = mp.MixtralModel.from_pretrained(tmp_path)
    assert all(torch.equal(base.state_dict()[name], w) for name, w in model.model.state_dict().items())
    with pytest.raises(InputError, match=r"lm_head\.weight is missing from .*: it has no language head"):
        mp.MixtralForCausalLM.from_pretrained(tmp_path)


def test_another_number_of_labels_than_stored(tmp_path):
    like(reference("SequenceClassification", num_labels=3), "SequenceClassification").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"score\.weight must have the shape \[4, 24\] .* \[3, 24\] .* num_labels=3"):
        mp.MixtralForSequenceClassification.from_pretrained(tmp_path, num_labels=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 5}, r"hidden_size must be that of the weights in the folder, 24; leave it out"),
        ({"dytpe": "float16"}, r"arguments of from_pretrained must be its own or fields of a config, got 'dytpe'"),
        ({"attention_dropout": 1.5}, r"attention_dropout must be in \[0, 1\), got 1\.5"),
    ],
)
def test_config_changes_that_cannot_be(tmp_path, changes, message):
    toy_model().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        mp.MixtralForCausalLM.from_pretrained(tmp_path, **changes)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("SequenceClassification", {"labels": torch.tensor([0, 9, 1])}, r"labels must be in 0–1, .* got 9"),
        ("SequenceClassification", {"labels": torch.tensor([0, 1])}, r"must have the shape \[3\], got \[2\]"),
        ("SequenceClassification", {"labels": torch.ones(3)}, r"multi_label_classification must .* shape \[3, 2\]"),
        ("TokenClassification", {"labels": torch.zeros(3, 8).long()}, r"shape \[3, 9\], got \[3, 8\]"),
        ("TokenClassification", {"labels": torch.zeros(3, 9)}, r"labels must be integers, .* torch\.float32"),
        ("QuestionAnswering", {"start_positions": torch.zeros(3).long()}, r"must be given together, got one"),
        ("QuestionAnswering", {"start_positions": torch.zeros(2).long(), "end_positions": torch.zeros(3).long()},
         r"start_positions must have the shape \[3\], got \[2\]"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        like(reference(kind), kind)(IDS, **arguments)
