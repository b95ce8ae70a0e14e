"""Methods and properties that code written for transformers finds on every model."""

import pytest
import torch
import transformers
from torch import nn

import mixtral_probe as mp
from mixtral_probe import InputError, MixtralConfig
from tests.support.models import TOY, ours_like, reference_model, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(7).remainder(50)
KINDS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True])
def test_sizes_and_places(kind, tied):
    fields = TOY | {"tie_word_embeddings": tied}
    theta = fields.pop("rope_theta")
    theirs = getattr(transformers, f"Mixtral{kind}")(
        transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    )
    ours = getattr(mp, f"Mixtral{kind}")(MixtralConfig(**TOY | {"tie_word_embeddings": tied}))
    for model in (theirs, ours):
        model.get_decoder().layers[0].requires_grad_(False)
    for trainable in (False, True):
        for exclude in (False, True):
            assert ours.num_parameters(trainable, exclude) == theirs.num_parameters(trainable, exclude)
    assert ours.get_memory_footprint() - theirs.get_memory_footprint() == sum(
        sign * buffer.nbytes for sign, model in ((1, ours), (-1, theirs)) for buffer in model.buffers()
    )
    assert ours.get_memory_footprint(return_buffers=False) == theirs.get_memory_footprint(return_buffers=False)
    assert ours.can_generate() is theirs.can_generate()
    assert (ours.device, ours.dtype) == (theirs.device, theirs.dtype)
    assert ours.to(torch.bfloat16).dtype is torch.bfloat16
    assert ours.to("meta").device.type == "meta"
    assert ours.base_model is ours.get_decoder() is (ours if kind == "Model" else ours.model)
    assert ours.main_input_name == theirs.main_input_name


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings(kind):
    ours = getattr(mp, f"Mixtral{kind}")(MixtralConfig(**TOY))
    assert ours.get_input_embeddings() is ours.base_model.embed_tokens
    assert ours.get_output_embeddings() is getattr(ours, "lm_head", None)
    other = nn.Embedding(50, 24)
    ours.set_input_embeddings(other)
    assert ours.base_model.embed_tokens is other
    head = nn.Linear(24, 50, bias=False)
    if kind == "ForCausalLM":
        ours.set_output_embeddings(head)
        assert ours.lm_head is head
    else:
        with pytest.raises(InputError, match="a language head belongs to MixtralForCausalLM, got one for a Mixtral"):
            ours.set_output_embeddings(head)


def test_a_tied_head_follows_the_embedding():
    ours = toy_model(tie_word_embeddings=True)
    ours.set_input_embeddings(nn.Embedding(50, 24))
    assert ours.lm_head.weight is ours.model.embed_tokens.weight


def test_there_is_one_config():
    ours = toy_model(output_router_logits=True)
    ours.config = ours.config.replace(output_router_logits=False)
    assert ours.config is ours.model.config
    assert ours(IDS).router_logits is None
    ours.config.output_hidden_states = True
    assert ours(IDS).hidden_states is not None


def test_embeddings_require_a_gradient_below_frozen_weights():
    ours = toy_model().requires_grad_(False)
    assert not ours(IDS).logits.requires_grad
    ours.enable_input_require_grads()
    ours.enable_input_require_grads()
    assert ours(IDS).logits.requires_grad
    ours.disable_input_require_grads()
    assert not ours(IDS).logits.requires_grad


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_checkpointing_kwargs": None},
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"gradient_checkpointing_kwargs": {"use_reentrant": True, "preserve_rng_state": False}},
        {"every_n_layers": 2},
    ],
    ids=str,
)
def test_checkpointing(arguments):
    theirs = reference_model(num_hidden_layers=3)
    plain, ours = ours_like(theirs).train(), ours_like(theirs).train()
    assert not ours.is_gradient_checkpointing
    ours.gradient_checkpointing_enable(**arguments)
    assert ours.is_gradient_checkpointing is ours.is_activation_checkpointing is True
    runs = []
    for layer in ours.model.layers:
        layer.register_forward_pre_hook(lambda module, inputs: runs.append(module.self_attn.layer))
    for model in (plain, ours):
        model(IDS, labels=IDS).loss.backward()
    again = [2, 0] if "every_n_layers" in arguments else [2, 1, 0]
    assert runs == [0, 1, 2, *again]
    pairs = zip(plain.parameters(), ours.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)
    ours.gradient_checkpointing_disable()
    assert not ours.is_gradient_checkpointing


@pytest.mark.parametrize("wanted", [False, True])
def test_checkpointing_by_the_config(wanted):
    """As configs of earlier versions of transformers have it."""
    for kind in KINDS:
        ours = getattr(mp, f"Mixtral{kind}")(MixtralConfig(**TOY, gradient_checkpointing=wanted))
        assert ours.is_gradient_checkpointing is wanted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"offload": True}, "activations stay on the device, got offload=True"),
        ({"activation_checkpointing_kwargs": {"kept": 1}}, "takes use_reentrant, preserve_rng_state, .* got 'kept'"),
        ({"every_n_layers": 0}, "every_n_layers must be at least 1, got 0"),
    ],
)
def test_checkpointing_that_cannot_be(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        toy_model().activation_checkpointing_enable(**arguments)


@pytest.mark.parametrize("arguments", [(57,), (None, 64), (57, 8), (50, 8), (48,)])
def test_vocabularies_of_a_multiple(arguments):
    theirs, ours = reference_model(), toy_model()
    assert ours.resize_token_embeddings(*arguments) is ours.get_input_embeddings()
    theirs.resize_token_embeddings(*arguments)
    assert ours.config.vocab_size == theirs.config.vocab_size == len(ours.lm_head.weight)
    named = dict(zip(("new_num_tokens", "pad_to_multiple_of"), arguments, strict=False))
    again = toy_model()
    again.resize_token_embeddings(**named)
    assert again.config.vocab_size == ours.config.vocab_size


def test_a_multiple_that_cannot_be():
    with pytest.raises(InputError, match="pad_to_multiple_of must be a whole number of at least 1, got 0"):
        toy_model().resize_token_embeddings(pad_to_multiple_of=0)


def test_the_next_call_of_a_generation():
    ours = toy_model()
    cache = ours(IDS[:, :6]).past_key_values
    arguments = ours.prepare_inputs_for_generation(IDS, past_key_values=cache, attention_mask=torch.ones_like(IDS))
    assert torch.allclose(ours(**arguments).logits[:, -1], ours(IDS).logits[:, -1], atol=1e-5)
    embedded = ours.get_input_embeddings()(IDS[:, :6])
    arguments = ours.prepare_inputs_for_generation(IDS, past_key_values=mp.model.KVCache(), inputs_embeds=embedded)
    assert torch.allclose(ours(**arguments).logits, ours(IDS[:, :6]).logits, atol=1e-5)
    cache.crop(6)
    later = ours.prepare_inputs_for_generation(IDS, past_key_values=cache, inputs_embeds=embedded)
    assert later["input_ids"].shape == (2, 3)
