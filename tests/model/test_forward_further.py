"""Arguments of ``forward`` beyond those that make up the forward pass, with the values of transformers."""

import inspect

import pytest
import torch
import transformers

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig
from tests.support.models import TOY, mask_of, ours_like, reference_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(50)
IGNORING = IDS.masked_fill(IDS % 3 == 0, -100)
ELSEWHERE = IDS.roll(3, 1)
LOSSES = [
    {"num_items_in_batch": 40},
    {"num_items_in_batch": torch.tensor(11)},
    {"num_items_in_batch": torch.tensor(7.5)},
    {"shift_labels": ELSEWHERE},
    {"shift_labels": ELSEWHERE.masked_fill(ELSEWHERE % 4 == 0, -100), "num_items_in_batch": 12},
    {"ignore_index": 7},
    {"cache_position": torch.arange(9), "token_type_ids": torch.zeros_like(IDS)},
]


@pytest.fixture(scope="module")
def models():
    theirs = reference_model(router_aux_loss_coef=0.3)
    return theirs, ours_like(theirs)


@pytest.mark.parametrize("arguments", LOSSES, ids=str)
@pytest.mark.parametrize("routers", [False, True])
def test_losses_and_their_gradients(models, arguments, routers):
    labels = IDS if "ignore_index" in arguments else IGNORING
    losses = []
    for model in models:
        model.zero_grad()
        losses.append(model(IDS, labels=labels, output_router_logits=routers, **arguments).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    theirs, ours = (model.lm_head.weight.grad for model in models)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_labels_of_the_positions_themselves_are_enough(models):
    with torch.no_grad():
        both = models[1](IDS, labels=IDS, shift_labels=ELSEWHERE).loss
        assert torch.equal(models[1](IDS, shift_labels=ELSEWHERE).loss, both)


@pytest.mark.parametrize("kept", [1, 4])
def test_labels_of_some_positions(models, kept):
    with torch.no_grad():
        arguments = {"shift_labels": ELSEWHERE[:, -kept:].contiguous(), "logits_to_keep": kept}
        theirs, ours = (model(IDS, labels=IDS, **arguments).loss for model in models)
    torch.testing.assert_close(ours, theirs)


def test_a_tokenizers_whole_output(models):
    encoded = {"input_ids": IDS, "token_type_ids": torch.zeros_like(IDS), "attention_mask": mask_of([9, 5], 9, "left")}
    with torch.no_grad():
        theirs, ours = (model(**encoded).logits for model in models)
        stack = models[1].model(**encoded, cache_position=torch.arange(9)).last_hidden_state
    kept = encoded["attention_mask"].bool()
    assert torch.equal(ours[kept], theirs[kept])
    assert torch.equal(models[1].lm_head(stack), ours)


HEADS = {
    "SequenceClassification": {"labels": torch.tensor([0, 1])},
    "TokenClassification": {"labels": IDS % 2},
    "QuestionAnswering": {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 4])},
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads(kind):
    fields = TOY | {"pad_token_id": 0}
    theta = fields.pop("rope_theta")
    config = transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    theirs = getattr(transformers, f"MixtralFor{kind}")._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    ours = getattr(mp, f"MixtralFor{kind}")(MixtralConfig.from_dict(config.to_dict()), "reference")
    ours.load_state_dict(theirs.state_dict())
    more = {"num_items_in_batch": 5, "token_type_ids": torch.zeros_like(IDS), "cache_position": torch.arange(9)}
    with torch.no_grad():
        expected, found = (model.eval()(IDS, **HEADS[kind], **more).loss for model in (theirs, ours))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["decoder_input_ids", "labls", "attn_mask"])
def test_unknown_arguments(models, name):
    for model in (models[1], models[1].model):
        with pytest.raises(InputError, match=f"must be among cache_position, .* got '{name}'; leave it out"):
            model(IDS, **{name: 1})


def test_the_signature_is_that_of_transformers():
    """Its Trainer takes every parameter with "label" in its name for labels, and further ones from a ``**``."""
    ours = inspect.signature(mp.MixtralForCausalLM.forward).parameters
    theirs = inspect.signature(transformers.MixtralForCausalLM.forward).parameters
    names = [name for name in ours if name in theirs]
    assert names == [name for name in theirs if name in ours]
    assert set(theirs) - set(ours) == {"kwargs"}
    assert [name for name in ours if "label" in name] == ["labels"]
    assert any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
