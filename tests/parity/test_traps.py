"""Mistakes a Mixtral implementation is known to make, each with a check that needs no other implementation."""

import pytest
import torch

from mixtral_probe import Instrument, MixtralModel
from tests.support.models import everything, mask_of, toy_model

IDS = torch.arange(18).reshape(2, 9).mul(11).remainder(50)
BOTH = pytest.mark.parametrize("numerics", ["reference", "fast"])


class Choices(Instrument):
    """Keeps which experts each layer used."""

    def __init__(self):
        self.ids, self.weights = [], []

    def wants(self, site, layer):
        return site == "routing"

    def visit(self, site, layer, value, context):
        self.ids.append(value.expert_ids)
        self.weights.append(value.weights)
        return value


@BOTH
@pytest.mark.parametrize("window", [None, 1, 2, 3, 20])
def test_prefill_and_decode_equal_one_pass_at_every_split(numerics, window):
    model = toy_model(numerics=numerics, sliding_window=window)
    whole = everything(model, IDS)
    with torch.inference_mode():
        for split in range(1, 9):
            first = model(IDS[:, :split], use_cache=True, output_router_logits=True)
            rest = model(IDS[:, split:], past_key_values=first.past_key_values, output_router_logits=True)
            logits = torch.cat((first.logits, rest.logits), dim=1)
            assert torch.allclose(logits, whole.logits, rtol=0, atol=1e-5), split
            for layer in range(2):
                parts = [out.router_logits[layer].view(2, -1, 12) for out in (first, rest)]
                routers = torch.cat(parts, dim=1).view(-1, 12)
                assert torch.allclose(routers, whole.router_logits[layer], rtol=0, atol=1e-5)


@BOTH
def test_cached_decoding_with_left_padding(numerics):
    model, mask = toy_model(numerics=numerics), mask_of([9, 4], 9, "left")
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        whole = model(IDS, mask, positions).logits
        first = model(IDS[:, :6], mask[:, :6], positions[:, :6], use_cache=True)
        rest = model(IDS[:, 6:], mask, positions[:, 6:], past_key_values=first.past_key_values).logits
        alone = model(IDS[1:, 5:]).logits
    assert torch.allclose(rest, whole[:, 6:], rtol=0, atol=1e-5)
    assert torch.allclose(whole[1:, 5:], alone, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_a_window_shows_that_many_keys(numerics, window):
    out = everything(toy_model(numerics=numerics, sliding_window=window), IDS)
    seen = (out.attentions[0] > 0).sum(-1)  # [B, H, S]
    assert torch.equal(seen, torch.arange(1, 10).clamp(max=window).expand(2, 4, 9))


@BOTH
def test_attention_weights_sum_to_one_over_the_past(numerics):
    for weights in everything(toy_model(numerics=numerics), IDS).attentions:
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
        assert weights.triu(1).abs().max() == 0


@BOTH
@pytest.mark.parametrize("mask", [None, mask_of([9, 9], 9, "left")])
def test_a_later_token_changes_nothing_before_it(numerics, mask):
    """A mask that is accepted and dropped shows here."""
    model, other = toy_model(numerics=numerics), IDS.clone()
    other[:, -1] = 49
    with torch.no_grad():
        one, two = model(IDS, mask).logits, model(other, mask).logits
    assert torch.allclose(one[:, :-1], two[:, :-1], rtol=0, atol=1e-6)
    assert (one[:, -1] - two[:, -1]).abs().max() > 1e-2


@BOTH
def test_padding_changes_nothing_where_tokens_are(numerics):
    model, mask = toy_model(numerics=numerics), mask_of([9, 5], 9, "right")
    other = IDS.masked_fill(mask == 0, 7)
    with torch.no_grad():
        one, two = model(IDS, mask).logits, model(other, mask).logits
        alone = model(IDS[1:, :5]).logits
    assert torch.allclose(one[mask.bool()], two[mask.bool()], rtol=0, atol=1e-6)
    assert torch.allclose(one[1:, :5], alone, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_left_padding_stays_finite(numerics, dtype):
    model, mask = toy_model(numerics=numerics, sliding_window=2).to(dtype), mask_of([9, 1], 9, "left")
    out = everything(model, IDS, mask)
    assert all(value.isfinite().all() for value in (out.logits, *out.hidden_states, *out.attentions))


@BOTH
def test_four_dimensional_masks_say_the_same(numerics):
    model, mask = toy_model(numerics=numerics), mask_of([9, 5], 9, "right")
    visible = (torch.ones(9, 9).tril() * mask[:, None, None, :]).bool()
    additive = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    with torch.no_grad():
        plain = model(IDS, mask).logits
        assert torch.equal(model(IDS, visible).logits, plain)
        assert torch.equal(model(IDS, additive).logits, plain)


def test_weights_of_the_chosen_sum_to_one_strongest_first():
    choices = Choices()
    with torch.no_grad():
        toy_model()(IDS, instruments=[choices])
    for ids, weights in zip(choices.ids, choices.weights, strict=True):
        assert ids.shape == weights.shape == (18, 3)
        assert torch.allclose(weights.sum(-1), torch.ones(18), atol=1e-6)
        assert (weights.diff(dim=-1) <= 0).all()


def test_ties_choose_k_different_experts():
    model, choices = toy_model(), Choices()
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.block_sparse_moe.gate.weight)
    with torch.no_grad():
        model(IDS, instruments=[choices])
    for ids, weights in zip(choices.ids, choices.weights, strict=True):
        assert all(len(set(row)) == 3 for row in ids.tolist())
        assert torch.allclose(weights, torch.full((18, 3), 1 / 3))


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {"num_experts_per_tok": 12},
        {"num_experts_per_tok": 1},
        {"num_local_experts": 1, "num_experts_per_tok": 1},
        {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2},
    ],
)
def test_smallest_and_largest_choices_run(numerics, changes):
    model = toy_model(numerics=numerics, **changes)
    for ids in (IDS, IDS[:, :1], IDS[:0]):
        out = everything(model, ids)
        assert out.logits.shape == (*ids.shape, 50)
        assert out.logits.isfinite().all()


def test_experts_without_tokens_change_nothing():
    """With one token at most 3 of 12 experts work; the others may hold anything."""
    model, choices = toy_model(), Choices()
    with torch.no_grad():
        before = model(IDS[:1, :1], instruments=[choices]).logits
        for layer, ids in zip(model.model.layers, choices.ids, strict=True):
            idle = [e for e in range(12) if e not in ids[0].tolist()]
            layer.block_sparse_moe.experts.down_proj[idle] = torch.nan
        assert torch.equal(model(IDS[:1, :1]).logits, before)


@BOTH
def test_last_hidden_state_is_after_the_norm_and_feeds_the_head(numerics):
    model = toy_model(numerics=numerics)
    out = everything(model, IDS)
    assert len(out.hidden_states) == 3
    assert torch.equal(out.hidden_states[0], model.model.embed_tokens(IDS))
    assert torch.equal(model.lm_head(out.hidden_states[-1]), out.logits)


def test_outputs_do_not_alias_reused_memory():
    model = toy_model()
    with torch.inference_mode():
        first = everything(model, IDS)
        kept = [value.clone() for value in (first.logits, *first.hidden_states, *first.router_logits)]
        everything(model, IDS.flip(1))
    again = (first.logits, *first.hidden_states, *first.router_logits)
    assert all(torch.equal(old, now) for old, now in zip(kept, again, strict=True))


def test_rounding_a_model_leaves_the_rotary_frequencies_exact():
    """Far from the start, tables of a model cast to bfloat16 and back are those of the model that never was."""
    far = torch.arange(4000, 4009)[None]
    model = MixtralModel(toy_model().config)
    with torch.no_grad():
        tables = model(IDS, position_ids=far).context.rotary
        cast = model.bfloat16().float()(IDS, position_ids=far).context.rotary
    assert all(torch.equal(one, two) for one, two in zip(tables, cast, strict=True))
