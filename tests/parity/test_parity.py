"""Our forward pass against transformers in its eager arithmetic: to the bit with numerics="reference"."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtral_probe import MixtralConfig, MixtralForCausalLM, MixtralModel, Tokenizer
from mixtral_probe.checkpoint import model_folder
from mixtral_probe.model.activations import ACTIVATION
from mixtral_probe.parity import random_config
from tests.support.models import (
    TOY,
    different,
    everything,
    in_own_memory,
    lowered,
    mask_of,
    ours_like,
    pair,
    reference_model,
    rerouted,
    toy_model,
    unpadded,
)

VARIANTS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "window": {"sliding_window": 3},
    "window of one": {"sliding_window": 1},
    "one kv head": {"num_key_value_heads": 1},
    "equal heads": {"num_key_value_heads": 4, "head_dim": None},
    "one expert chosen": {"num_experts_per_tok": 1},
    "all experts chosen": {"num_experts_per_tok": 12},
    "single expert": {"num_local_experts": 1, "num_experts_per_tok": 1},
    "gelu": {"hidden_act": "gelu"},
    "three layers": {"num_hidden_layers": 3},
}
IDS = torch.arange(27).reshape(3, 9).mul(7).remainder(50)
INPUTS = {
    "whole": (IDS, None),
    "left padding": (IDS, mask_of([9, 5, 1], 9, "left")),
    "right padding": (IDS, mask_of([4, 9, 2], 9, "right")),
    "one position": (IDS[:, :1], None),
}


@pytest.fixture(scope="module", params=VARIANTS)
def theirs(request):
    return reference_model(**VARIANTS[request.param])


@pytest.fixture(params=INPUTS)
def inputs(request):
    ids, mask = INPUTS[request.param]
    return ids, mask, torch.ones_like(ids) if mask is None else mask


def test_reference_numerics_are_equal_to_the_bit(theirs, inputs):
    ids, mask, kept = inputs
    expected, found = everything(theirs, ids, mask), everything(ours_like(theirs), ids, mask)
    assert 0.2 < expected.logits.std() < 5  # neither vanishing nor saturated
    assert different(unpadded(found, kept), unpadded(expected, kept)) == []
    assert torch.equal(found.hidden_states[-1], everything(ours_like(theirs).model, ids, mask).last_hidden_state)
    assert abs(found.aux_loss - expected.aux_loss) < 1e-6


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize(
    ("shape", "heads", "head_dim"), [((3, 11), 3, 4), ((2, 10), 2, 4), ((3, 10), 3, 10), ((3, 11), 3, 6)]
)
def test_heads_with_keys_of_their_own_are_equal_to_the_bit(shape, heads, head_dim, use_cache):
    """The rounding of a product depends on whether its factors were copied, which only these sizes show."""
    ids = torch.arange(shape[0] * shape[1]).reshape(shape).mul(7).remainder(50)
    for activation in ("gelu", "quick_gelu", "silu"):
        theirs = reference_model(
            num_attention_heads=heads, num_key_value_heads=heads, head_dim=head_dim, hidden_act=activation,
            num_local_experts=5, std=0.15,
        )  # fmt: skip
        expected, found = (everything(m, ids, use_cache=use_cache) for m in (theirs, ours_like(theirs)))
        assert different(unpadded(found, torch.ones_like(ids)), unpadded(expected, torch.ones_like(ids))) == []


def test_fast_numerics_are_close_and_route_alike(theirs, inputs):
    ids, mask, kept = inputs
    expected, model = everything(theirs, ids, mask), ours_like(theirs, "fast")
    with torch.inference_mode():  # where buffers are reused
        inference = everything(model, ids, mask)
    for found in (everything(model, ids, mask), inference):
        assert different(unpadded(found, kept), unpadded(expected, kept), 1e-5) == []
        for ours, reference in zip(found.router_logits, expected.router_logits, strict=True):
            chosen = kept.reshape(-1).bool()
            assert rerouted(ours[chosen], reference[chosen], theirs.config.num_experts_per_tok) == 0


def test_the_reference_really_runs_its_eager_experts(monkeypatch):
    """Only transformers' eager loop calls one_hot, once per layer."""
    model, calls, one_hot = reference_model(), [], torch.nn.functional.one_hot
    monkeypatch.setattr(torch.nn.functional, "one_hot", lambda *a, **k: calls.append(1) or one_hot(*a, **k))
    everything(model, IDS)
    assert len(calls) == model.config.num_hidden_layers
    assert model.config._attn_implementation == "eager"


def test_loss_and_its_gradients():
    theirs = reference_model(router_aux_loss_coef=0.3)
    ours = ours_like(theirs)
    labels = IDS.clone()
    labels[0, :4] = -100
    expected = theirs(IDS, labels=labels, output_router_logits=True)
    found = ours(IDS, labels=labels, output_router_logits=True)
    assert abs(found.loss - expected.loss) < 1e-6
    expected.loss.backward()
    found.loss.backward()
    other = {name.replace(".mlp.", ".block_sparse_moe."): p.grad for name, p in theirs.named_parameters()}
    own = {name: p.grad for name, p in ours.named_parameters()}
    assert different(own, other, 1e-6) == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_balance_loss_leaves_padding_out(side):
    theirs, mask = reference_model(), mask_of([9, 3, 5], 9, side)
    expected, found = everything(theirs, IDS, mask).aux_loss, everything(ours_like(theirs), IDS, mask).aux_loss
    assert abs(found - expected) < 1e-6
    assert abs(found - everything(theirs, IDS).aux_loss) > 1e-3


@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_decoding_with_a_cache(numerics):
    """One position at a time, theirs against ours; bit-equal in reference numerics."""
    theirs = reference_model()
    ours = ours_like(theirs, numerics)
    with torch.no_grad():
        expected, found = theirs(IDS[:, :4], use_cache=True), ours(IDS[:, :4], use_cache=True)
        for position in range(4, 9):
            step = IDS[:, position : position + 1]
            expected = theirs(step, past_key_values=expected.past_key_values)
            found = ours(step, past_key_values=found.past_key_values)
            assert (found.logits - expected.logits).abs().max() <= (0 if numerics == "reference" else 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_router_logits_are_equal_to_the_bit(dtype):
    """A router computed in float32, a norm weight applied before the cast, or float32 rotary tables would show."""
    theirs = lowered(reference_model(), dtype)
    expected, found = everything(theirs, IDS), everything(ours_like(theirs), IDS)
    everywhere = torch.ones_like(IDS)
    assert found.router_logits[0].dtype is dtype
    assert different(unpadded(found, everywhere), unpadded(expected, everywhere)) == []


def test_rotary_frequencies_stay_exact_in_bfloat16():
    """At position 4000 a frequency rounded to bfloat16 is radians off."""
    theirs = lowered(reference_model(std=0.3), torch.bfloat16)
    ours, far = ours_like(theirs), torch.arange(4000, 4009)[None]
    expected, found = everything(theirs, IDS, position_ids=far), everything(ours, IDS, position_ids=far)
    assert different(unpadded(found, torch.ones_like(IDS)), unpadded(expected, torch.ones_like(IDS))) == []


def test_small_activations_show_the_epsilon():
    theirs = reference_model(rms_norm_eps=1e-5)
    tiny = 1e-3 * torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    expected = everything(theirs, None, inputs_embeds=tiny)
    found = everything(ours_like(theirs), None, inputs_embeds=tiny)
    assert torch.equal(found.logits, expected.logits)
    with_other = ours_like(reference_model(rms_norm_eps=1e-6))
    assert (everything(with_other, None, inputs_embeds=tiny).logits - expected.logits).abs().max() > 1e-2


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_folder_saved_by_transformers_is_read(tmp_path, tied, shards):
    theirs = reference_model(tie_word_embeddings=tied)
    size = sum(4 * w.numel() for w in theirs.parameters())
    theirs.save_pretrained(tmp_path, max_shard_size=size if shards == 1 else int(size / 2.6))
    assert len(list(tmp_path.glob("*.safetensors"))) == shards
    ours = MixtralForCausalLM.from_pretrained(tmp_path, numerics="reference")
    assert torch.equal(everything(ours, IDS).logits, everything(theirs, IDS).logits)


def test_fused_folder_saved_by_transformers_is_read(tmp_path):
    theirs = reference_model()
    theirs.save_pretrained(tmp_path, save_original_format=False)
    ours = MixtralForCausalLM.from_pretrained(tmp_path, numerics="reference")
    assert torch.equal(everything(ours, IDS).logits, everything(theirs, IDS).logits)


@pytest.mark.parametrize("layout", ["classic", "fused"])
@pytest.mark.parametrize("size", [None, 30_000])
@pytest.mark.parametrize("tied", [False, True])
def test_folder_saved_by_us_is_read_by_transformers(tmp_path, layout, size, tied):
    ours = toy_model(numerics="reference", tie_word_embeddings=tied, sliding_window=3)
    ours.save_pretrained(tmp_path, layout=layout, max_shard_size=size)
    theirs, report = transformers.MixtralForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager", experts_implementation="eager"
    )
    assert not any(report.values()), report
    assert theirs.config.rope_parameters["rope_theta"] == TOY["rope_theta"]
    assert theirs.dtype is torch.float32
    in_own_memory(theirs)
    assert torch.equal(everything(ours, IDS).logits, everything(theirs.eval(), IDS).logits)


def test_base_model_saved_by_transformers_is_read(tmp_path):
    theirs = reference_model()
    theirs.model.save_pretrained(tmp_path)
    ours = MixtralModel.from_pretrained(tmp_path, numerics="reference")
    with torch.no_grad():
        assert torch.equal(ours(IDS).last_hidden_state, theirs.model(IDS).last_hidden_state)


def test_the_embedded_model():
    """A trained model, whose routers decide as clearly as they do in earnest."""
    ids = torch.from_numpy(Tokenizer.from_folder(model_folder("mini")).encode("def add(a, b):\n    return a").ids)[
        None
    ].long()
    theirs = transformers.MixtralForCausalLM.from_pretrained(
        model_folder("mini"), dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    in_own_memory(theirs)
    everywhere, expected = torch.ones_like(ids), everything(theirs, ids)
    exact = everything(MixtralForCausalLM.from_pretrained("mini", numerics="reference"), ids)
    assert different(unpadded(exact, everywhere), unpadded(expected, everywhere)) == []
    with torch.inference_mode():
        fast = everything(MixtralForCausalLM.from_pretrained("mini"), ids)
    for ours, reference in zip(fast.router_logits, expected.router_logits, strict=True):
        assert rerouted(ours, reference, theirs.config.num_experts_per_tok) == 0
    assert torch.allclose(fast.logits, expected.logits, rtol=1e-5, atol=1e-3)


def test_config_written_by_transformers_is_read(tmp_path):
    theirs, ours = pair(tmp_path, sliding_window=3)
    assert ours.config.sliding_window == theirs.config.sliding_window == 3
    assert ours.config.rope_theta == 10000.0
    assert ours.config.num_parameters() == sum(w.numel() for w in theirs.parameters())


@st.composite
def cases(draw):
    """A small config with a batch that fits it."""
    kv_heads, experts = draw(st.integers(1, 2)), draw(st.integers(1, 6))
    fields = {
        "vocab_size": 17,
        "hidden_size": draw(st.sampled_from([6, 10, 16])),
        "intermediate_size": draw(st.integers(1, 12)),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": kv_heads * draw(st.integers(1, 3)),
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.sampled_from([2, 4, 6])),
        "num_local_experts": experts,
        "num_experts_per_tok": draw(st.integers(1, experts)),
        "sliding_window": draw(st.sampled_from([None, 1, 2, 4])),
        "tie_word_embeddings": draw(st.booleans()),
        "hidden_act": draw(st.sampled_from(["silu", "gelu_pytorch_tanh", "relu"])),
    }
    batch, size = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    ids = torch.tensor(draw(st.lists(st.integers(0, 16), min_size=batch * size, max_size=batch * size)))
    lengths = draw(st.lists(st.integers(1, size), min_size=batch, max_size=batch))
    return fields, ids.reshape(batch, size), mask_of(lengths, size, draw(st.sampled_from(["left", "right"])))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 99))
def test_any_small_model_on_any_input(case, seed):
    fields, ids, mask = case
    theirs = reference_model(seed, 0.2, **fields)
    expected = unpadded(everything(theirs, ids, mask), mask)
    assert different(unpadded(everything(ours_like(theirs), ids, mask), mask), expected) == []
    with torch.inference_mode():
        assert different(unpadded(everything(ours_like(theirs, "fast"), ids, mask), mask), expected, 1e-5) == []


def random_pair(seed, activation, dtype):
    """A random model of transformers and ours with the same weights, and an input with its mask."""
    generator = np.random.default_rng(seed)
    config = random_config.random_config(generator)
    window = None if config.sliding_window == 1 else config.sliding_window  # that of one is a difference on purpose
    heads = config.num_key_value_heads if seed % 3 == 0 else config.num_attention_heads
    config = config.replace(hidden_act=activation, sliding_window=window, num_attention_heads=heads)
    fields = {name: value for name, value in config.to_dict().items() if name not in ("rope_theta", "rope_scaling")}
    theirs = transformers.MixtralForCausalLM._from_config(
        transformers.MixtralConfig.from_dict(fields), attn_implementation="eager", experts_implementation="eager"
    ).eval()
    random_config.randomise(theirs, generator)
    frequencies = theirs.model.rotary_emb.original_inv_freq.clone()  # which .to would round
    lowered(theirs, dtype).model.rotary_emb.original_inv_freq = frequencies
    ours = MixtralForCausalLM(config, "reference").to(dtype)
    ours.load_state_dict(theirs.state_dict())
    ids, mask = random_config.random_input(config.vocab_size, generator)
    return theirs, ours.eval(), ids, torch.ones_like(ids) if mask is None else mask


def equal_to_the_bit(seeds, dtype):
    names = list(ACTIVATION)
    for seed in seeds:
        theirs, ours, ids, mask = random_pair(seed, names[seed % len(names)], dtype)
        expected, found = (unpadded(everything(model, ids, mask), mask) for model in (theirs, ours))
        assert different(found, expected) == [], (seed, names[seed % len(names)])


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


@DTYPES
def test_every_activation_is_equal_to_the_bit(dtype):
    equal_to_the_bit(range(len(ACTIVATION)), dtype)


@pytest.mark.slow
@DTYPES
def test_every_activation_on_many_models(dtype):
    equal_to_the_bit(range(24 * len(ACTIVATION)), dtype)


def test_fresh_models_start_alike():
    """Same distribution of first weights: normal with initializer_range, norms 1, padding row 0."""
    fields = TOY | {"hidden_size": 64, "pad_token_id": 3, "initializer_range": 0.02}
    torch.manual_seed(0)
    theirs_fields = {name: value for name, value in fields.items() if name != "rope_theta"}
    theirs = transformers.MixtralForCausalLM(transformers.MixtralConfig(**theirs_fields))
    ours = MixtralForCausalLM(MixtralConfig(**fields))
    other = {name.replace(".mlp.", ".block_sparse_moe."): w for name, w in theirs.named_parameters()}
    for name, weight in ours.named_parameters():
        assert abs(weight.std() - other[name].std()) < 0.2 * 0.02, name
    assert ours.model.embed_tokens.weight[3].abs().max() == 0
