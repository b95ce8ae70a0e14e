"""Outputs are read by attribute, key, place and iteration as those of transformers."""

import copy
import pickle

import pytest
import torch
import transformers
from torch.utils._pytree import tree_leaves, tree_map_only

import mixtral_probe as mp
from mixtral_probe import MixtralConfig
from tests.support.models import TOY, ours_like, randomise, reference_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(49) + 1
ASKED = {"output_hidden_states": True, "output_attentions": True}
HEADS = {
    "SequenceClassification": {"labels": torch.tensor([0, 1])},
    "TokenClassification": {"labels": IDS % 2},
    "QuestionAnswering": {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 4])},
}


@pytest.fixture(scope="module")
def outputs():
    theirs = reference_model()
    with torch.no_grad():
        yield theirs(IDS, labels=IDS, **ASKED), ours_like(theirs)(IDS, labels=IDS, **ASKED)


def test_the_same_keys_in_the_same_order(outputs):
    theirs, ours = outputs
    assert list(ours) == list(theirs) == list(ours.keys())
    assert [key for key, _ in ours.items()] == list(theirs)
    assert len(ours) == len(theirs)
    loss, *_ = ours
    assert loss == "loss"
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)


@pytest.mark.parametrize("key", ["loss", "logits", 0, 1, -1, slice(2), slice(1, None), slice(None, None, 2)])
def test_items_by_key_place_and_slice(outputs, key):
    theirs, ours = (output[key] for output in outputs)
    assert type(ours) is type(theirs)
    for a, b in zip(*((value if isinstance(value, tuple) else (value,)) for value in (ours, theirs)), strict=True):
        assert not isinstance(b, torch.Tensor) or torch.equal(a, b)


@pytest.mark.parametrize("key", ["router_logits", "aux_loss", "nothing", 9])
def test_what_was_not_requested_is_no_item(outputs, key):
    for output in outputs:
        assert key not in output
        with pytest.raises((KeyError, IndexError)):
            output[key]
    assert outputs[1].aux_loss is outputs[0].aux_loss is None
    assert outputs[1].get("aux_loss") is None
    with pytest.raises(AttributeError, match="CausalLMOutput has no field 'nothing'"):
        _ = outputs[1].nothing


def test_unpacking_and_assignment(outputs):
    ours = copy.copy(outputs[1])
    loss, logits = ours[:2]
    assert loss is ours.loss
    assert logits is ours.to_tuple()[1]
    ours.loss = loss + 1
    assert ours["loss"] == loss + 1 == ours[0]
    ours["logits"] = logits[:1]
    assert len(ours.logits) == 1
    assert outputs[1].loss == loss
    rebuilt = type(ours)(dict(ours.items()))
    assert rebuilt.logits is ours.logits
    assert list(type(ours)(item for item in ours.items())) == list(ours)


def test_pickled(outputs):
    ours = outputs[1]
    del ours["past_key_values"]
    again = pickle.loads(pickle.dumps(ours))
    assert list(again) == list(ours)
    assert torch.equal(again.logits, ours.logits)
    assert torch.equal(again.last_layer_output, ours.last_layer_output)


def test_functions_of_torch_reach_the_tensors(outputs):
    """As FSDP does, which hooks the gradients of a call's outputs."""
    theirs, ours = outputs
    doubled = tree_map_only(torch.Tensor, lambda value: value * 2, ours)
    assert (type(doubled), list(doubled)) == (type(ours), list(ours))
    assert torch.equal(doubled.logits, 2 * ours.logits)
    assert torch.equal(doubled.hidden_states[1], 2 * ours.hidden_states[1])
    assert torch.equal(doubled.last_layer_output, 2 * ours.last_layer_output)
    own, other = ({id(leaf) for leaf in tree_leaves(output)} for output in (ours, theirs))
    assert len(own) >= len(other)
    assert {id(ours.loss), id(ours.logits), *map(id, ours.attentions)} <= own


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("labels", [False, True])
def test_heads(kind, labels):
    fields = TOY | {"pad_token_id": 0}
    theta = fields.pop("rope_theta")
    config = transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    theirs = getattr(transformers, f"MixtralFor{kind}")._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    randomise(theirs, 0)
    ours = getattr(mp, f"MixtralFor{kind}")(MixtralConfig.from_dict(config.to_dict()), "reference")
    ours.load_state_dict(theirs.state_dict())
    arguments = ASKED | (HEADS[kind] if labels else {})
    with torch.no_grad():
        expected, found = (model.eval()(IDS, **arguments) for model in (theirs, ours))
        as_tuples = [model(IDS, return_dict=False, **arguments) for model in (theirs, ours)]
        routed = ours(IDS, output_router_logits=True, **arguments)
    assert list(found) == list(expected)
    assert len(as_tuples[0]) == len(as_tuples[1]) == len(expected)
    for name in found:
        if isinstance(found[name], torch.Tensor):
            assert torch.equal(found[name], expected[name])
    assert list(routed) == [*expected, "router_logits", "aux_loss"]
    assert len(found.past_key_values) == 9
