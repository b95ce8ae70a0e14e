"""bfloat16 and float16: routing first, then numbers, since transformers rounds differently from version to version."""

import pytest
import torch
import torch.nn.functional as F

from mixtral_probe import MixtralConfig, MixtralForCausalLM
from mixtral_probe.model import ForwardContext, Instrument
from mixtral_probe.model.hooks import Hooks
from mixtral_probe.model.moe import MixtureOfExperts, choose_experts
from tests.support.models import (
    TOY,
    different,
    everything,
    lowered,
    mask_of,
    ours_like,
    reference_model,
    toy_model,
    unpadded,
)

IDS = torch.arange(60).reshape(3, 20).mul(7).remainder(50)
LOW = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
MASK = mask_of([20, 11, 5], 20, "left")


def pair(dtype, numerics="reference", **changes):
    theirs = lowered(reference_model(**changes), dtype)
    return theirs, ours_like(theirs, numerics)


def agreement(ours, theirs, top_k):
    """Share of rows [T] with the same experts, and the largest gap of logits where they differ.

    The gap is that between the K-th and the next logit of theirs: a choice made by a gap that rounding explains.
    """
    best = theirs.float().sort(dim=-1, descending=True)
    same = (ours.topk(top_k).indices.sort().values == best.indices[:, :top_k].sort().values).all(-1)
    gaps = best.values[:, top_k - 1] - best.values[:, top_k]
    return same.float().mean().item(), gaps[~same].max().item() if not same.all() else 0.0


@LOW
@pytest.mark.parametrize("changes", [{}, {"sliding_window": 3}, {"num_experts_per_tok": 1}, {"num_key_value_heads": 4}])
def test_reference_numerics_are_equal_to_the_bit(dtype, changes):
    theirs, ours = pair(dtype, **changes)
    expected, found = everything(theirs, IDS, MASK), everything(ours, IDS, MASK)
    assert different(unpadded(found, MASK), unpadded(expected, MASK)) == []
    assert {value.dtype for value in (found.logits, found.router_logits[0], found.attentions[0])} == {dtype}


@LOW
def test_fast_numerics_route_alike(dtype):
    """The first router sees the embedding's rounding only; below, a difference needs a gap that rounding explains."""
    theirs, ours = pair(dtype, "fast")
    with torch.inference_mode():
        found = everything(ours, IDS)
    expected = everything(theirs, IDS)
    step = torch.finfo(dtype).eps * expected.router_logits[0].abs().max().item()
    for layer, (one, other) in enumerate(zip(found.router_logits, expected.router_logits, strict=True)):
        share, gap = agreement(one, other, 3)
        assert share >= 0.9, (layer, share)
        assert gap <= 8 * step, (layer, gap)
    close = torch.finfo(dtype).eps * 8 * expected.logits.abs().max()
    agreeing = torch.ones(60, dtype=torch.bool)
    for one, other in zip(found.router_logits, expected.router_logits, strict=True):
        agreeing &= (one.topk(3).indices.sort().values == other.topk(3).indices.sort().values).all(-1)
    rows = agreeing.view(3, 20).cumprod(1).bool()  # a token is comparable while all before it were routed alike
    assert rows.sum() > 30
    assert (found.logits - expected.logits)[rows].abs().max() <= close


@LOW
def test_decoding_is_equal_to_the_bit(dtype):
    theirs, ours = pair(dtype)
    with torch.no_grad():
        expected, found = theirs(IDS[:, :9], use_cache=True), ours(IDS[:, :9], use_cache=True)
        for position in range(9, 20):
            step = IDS[:, position : position + 1]
            expected = theirs(step, past_key_values=expected.past_key_values)
            found = ours(step, past_key_values=found.past_key_values)
            assert torch.equal(found.logits, expected.logits), position


class Shown(Instrument):
    """Keeps what each expert made, and sums it by the formula."""

    def __init__(self):
        self.slices = []

    def wants(self, site, layer):
        return site == "expert_output"

    def visit(self, site, layer, value, context):
        self.slices.append(value)
        return value

    def summed(self, x, block, rounded):
        probabilities = F.softmax(F.linear(x[0], block.gate.weight).float(), dim=-1)
        best = probabilities.topk(3)
        weights = best.values / best.values.sum(-1, keepdim=True)
        out = torch.zeros_like(x[0])
        for part in self.slices:
            for row, made in zip(part.rows.tolist(), part.values, strict=True):
                weight = weights[row, best.indices[row] == part.expert]
                out[row] += (made * (weight.to(x.dtype) if rounded else weight)).to(x.dtype)
        return out[None]


@LOW
def test_precision_of_the_routing_weights(dtype):
    """Against the formula of each version, written out: 5 keeps them float32, 4 rounds them before they are used."""
    torch.manual_seed(0)
    x = torch.randn(1, 30, 24).to(dtype)
    outputs = {}
    for choice in ("float32", "activations"):
        block = MixtureOfExperts(MixtralConfig(**TOY, routing_weight_dtype=choice))
        torch.manual_seed(1)
        for weight in block.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        block.to(dtype)
        context = ForwardContext(torch.zeros(1, 30, dtype=torch.int64), (x, x), None)
        shown = Shown()
        with torch.no_grad():
            outputs[choice] = block(x, context, Hooks([shown], 0, context))
            assert torch.equal(outputs[choice], shown.summed(x, block, choice == "activations"))
    assert not torch.equal(outputs["float32"], outputs["activations"])
    logits = torch.randn(5, 12).to(dtype)
    assert choose_experts(logits, 3).weights.dtype is torch.float32
    assert choose_experts(logits, 3, dtype).weights.dtype is dtype


def test_the_choice_of_precision_is_nothing_in_float32(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path)
    other = MixtralForCausalLM.from_pretrained(tmp_path, routing_weight_dtype="activations")
    assert other.config.routing_weight_dtype == "activations"
    with torch.no_grad():
        assert torch.equal(other(IDS).logits, model(IDS).logits)
        low, plain = other.bfloat16(), model.bfloat16()
        assert not torch.equal(low(IDS).logits, plain(IDS).logits)
