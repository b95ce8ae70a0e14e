"""Experts as one grouped product, beside those of transformers and beside the loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mixtral_probe import InputError, MixtralForCausalLM, Probe
from mixtral_probe.instruments import Timer, clock_for
from mixtral_probe.instruments.edits import MaskExpert, ZeroExpert
from mixtral_probe.model import Instrument, Routing, Site, grouped_experts
from mixtral_probe.model.grouped_experts import eager_experts, faster, grouped_output, obstacle
from tests.support.models import lowered, ours_like, reference_model, toy_model

IDS = torch.arange(60).reshape(3, 20).mul(7).remainder(50)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
ALIGNED = {"hidden_size": 48, "intermediate_size": 40}
UNALIGNED = {"hidden_size": 24, "intermediate_size": 18}

pytestmark = pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")


class Outputs(Instrument):
    """Wants the output of every expert."""

    sites = (Site.EXPERT_OUTPUT,)


def experts_of(model):
    return model.model.layers[0].block_sparse_moe.experts


def grouped(experts, x, routing, **options):
    return grouped_output(x, routing, experts.gate_up_proj, experts.down_proj, experts.activation, **options)


def random_choice(rows, experts, chosen, seed, absent=0.0):
    """Ids [rows, chosen] without repetition, some of them −1, and weights."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, experts, generator=draw)
    scores[:, 1] = -1  # an expert without rows
    ids = scores.topk(chosen).indices
    gone = torch.rand(rows, chosen, generator=draw) < absent
    weights = torch.rand(rows, chosen, generator=draw).masked_fill(gone, 0.0)
    return Routing(ids.masked_fill(gone, -1), weights, scores)


@DTYPES
@pytest.mark.parametrize("chosen", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 7, 130])
def test_equal_to_those_of_transformers_to_the_bit(dtype, chosen, rows):
    theirs = lowered(reference_model(seed=chosen, **ALIGNED), dtype)
    theirs.set_experts_implementation("grouped_mm")
    experts, routing = experts_of(ours_like(theirs, "fast")), random_choice(rows, 12, chosen, seed=rows)
    x = torch.randn(rows, 48, generator=torch.Generator().manual_seed(rows)).to(dtype)
    with torch.no_grad():
        expected = theirs.model.layers[0].mlp.experts(x, routing.expert_ids, routing.weights)
        assert torch.equal(grouped(experts, x, routing), expected)
        assert torch.equal(grouped(experts, x, routing, complete=True), expected)


@DTYPES
def test_a_model_takes_it_where_asked_and_differs_from_the_loop_by_rounding(dtype):
    model = toy_model(**ALIGNED).to(dtype)
    with torch.inference_mode():
        model.set_experts_implementation("eager")
        expected = model(IDS, output_router_logits=True)
        model.set_experts_implementation("grouped_mm")
        found = model(IDS, output_router_logits=True)
    assert model.experts_used() == model.experts_implementation == "grouped_mm"
    bound = 1e-5 if dtype is torch.float32 else 16 * torch.finfo(dtype).eps
    first = (found.router_logits[0] - expected.router_logits[0]).abs().max()
    assert first == 0  # before any expert
    same = (found.router_logits[1].topk(3).indices == expected.router_logits[1].topk(3).indices).all(-1)
    assert (found.logits - expected.logits).abs().view(60, -1)[same].max() <= bound * expected.logits.abs().max()


@pytest.mark.parametrize("absent", [0.3, 1.0])
@pytest.mark.parametrize("gradients", [False, True])
def test_places_without_an_expert_add_nothing_whatever_memory_held(monkeypatch, absent, gradients):
    def unwritten(rows, weights, offs):
        values = product(rows, weights, offs=offs)
        beyond = torch.arange(len(values)) >= offs[-1]
        if values.requires_grad:
            values.register_hook(lambda g: g.masked_fill(beyond[:, None], float("nan")))
        return values.masked_fill(beyond[:, None], float("nan"))

    product = F.grouped_mm
    experts, routing = experts_of(toy_model(**ALIGNED)), random_choice(30, 12, 3, seed=1, absent=absent)
    x = torch.randn(30, 48, generator=torch.Generator().manual_seed(2), requires_grad=gradients)
    expected = by_hand(experts, x, routing)
    monkeypatch.setattr(F, "grouped_mm", unwritten)
    found = grouped(experts, x, routing)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if gradients and absent < 1:
        one, other = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (found, expected))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def by_hand(experts, x, routing):
    """Σ weight · w2(act(w1 x) · w3 x), row by row."""
    rows = []
    for row, ids, weights in zip(x, routing.expert_ids.tolist(), routing.weights, strict=True):
        total = torch.zeros(x.shape[1])
        for number, weight in zip(ids, weights, strict=True):
            if number >= 0:
                gate, up = (experts.gate_up_proj[number] @ row).chunk(2)
                total = total + weight * (experts.down_proj[number] @ (F.silu(gate) * up))
        rows.append(total)
    return torch.stack(rows)


def test_gradients_are_those_of_transformers():
    theirs = reference_model(**ALIGNED)
    theirs.set_experts_implementation("grouped_mm")
    ours, routing = experts_of(ours_like(theirs, "fast")), random_choice(50, 12, 3, seed=3)
    ends = []
    for run in (lambda x: theirs.model.layers[0].mlp.experts(x, routing.expert_ids, routing.weights),
                lambda x: grouped(ours, x, routing)):  # fmt: skip
        x = torch.randn(50, 48, generator=torch.Generator().manual_seed(5), requires_grad=True)
        run(x).square().sum().backward()
        ends.append(x.grad)
    assert torch.equal(*ends)
    peer = theirs.model.layers[0].mlp.experts
    torch.testing.assert_close(ours.gate_up_proj.grad, peer.gate_up_proj.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.down_proj.grad, peer.down_proj.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "instrument", [Outputs(), Timer(clock_for(torch.device("cpu")))], ids=["expert outputs", "timer"]
)
def test_instruments_that_want_experts_one_by_one_get_the_loop(monkeypatch, instrument):
    model = toy_model(**ALIGNED)
    model.set_experts_implementation("grouped_mm")
    monkeypatch.setattr(F, "grouped_mm", None)
    model(IDS, instruments=[instrument])
    assert model.experts_used([instrument]).startswith("eager (an instrument")
    with pytest.raises(TypeError):
        model(IDS)


@pytest.mark.parametrize(
    ("changes", "dtype", "words"),
    [
        (UNALIGNED, torch.float32, "rows must be multiples of 16 bytes"),
        ({"hidden_size": 28, "intermediate_size": 40}, torch.bfloat16, "rows must be multiples of 16 bytes"),
        (ALIGNED, torch.float64, "float64 has no grouped product"),
    ],
)
def test_weights_without_a_grouped_product_get_the_loop(changes, dtype, words):
    model = toy_model(**changes).to(dtype)
    expected = model(IDS).logits
    model.set_experts_implementation("grouped_mm")
    assert words in model.experts_used()
    assert torch.equal(model(IDS).logits, expected)


def test_an_older_torch_gets_the_loop(monkeypatch):
    model = toy_model(**ALIGNED)
    monkeypatch.delattr(F, "grouped_mm")
    model.set_experts_implementation("grouped_mm")
    assert "has no grouped_mm" in model.experts_used()
    model(IDS)


def test_activations_of_another_dtype_get_the_loop():
    experts = experts_of(toy_model(**ALIGNED))
    assert "another dtype" in obstacle(torch.bfloat16, experts.gate_up_proj, experts.down_proj)
    with torch.autocast("cpu", torch.bfloat16):
        assert "another dtype" in obstacle(torch.float32, experts.gate_up_proj, experts.down_proj)


def test_on_a_cpu_the_loop_is_the_default(monkeypatch):
    monkeypatch.setattr(F, "grouped_mm", None)
    model = toy_model(**ALIGNED)
    model(IDS)
    assert model.experts_used() == "eager"


def test_by_default_it_is_taken_where_it_was_measured_to_be_faster(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", {7: (9, 0), 8: (8, 0)}.__getitem__)
    monkeypatch.setattr(grouped_experts, "_capability", lambda device: torch.cuda.get_device_capability(device.index))
    assert [faster(torch.device(f"cuda:{n}")) for n in (7, 8)] == [True, False]
    assert not faster(torch.device("cpu"))


def test_runs_that_are_compared_are_both_the_loop_where_one_needs_it(monkeypatch):
    model = toy_model(**ALIGNED)
    model.set_experts_implementation("grouped_mm")
    monkeypatch.setattr(F, "grouped_mm", None)
    with eager_experts(), eager_experts(False):
        model(IDS)
        assert model.experts_used() == "eager (as in the run it is compared with)"
    with eager_experts(False), pytest.raises(TypeError):
        model(IDS)


@pytest.mark.parametrize(("edit", "looped"), [(ZeroExpert(expert=3), True), (MaskExpert(expert=3), False)], ids=str)
def test_a_what_if_of_expert_outputs_has_no_difference_from_rounding(monkeypatch, tokenizer, edit, looped):
    calls, product = [], F.grouped_mm
    monkeypatch.setattr(F, "grouped_mm", lambda *a, **k: calls.append(1) or product(*a, **k))
    model = toy_model(**ALIGNED, vocab_size=tokenizer.vocab_size).to(torch.bfloat16)
    model.set_experts_implementation("grouped_mm")
    elsewhere = edit.model_copy(update={"position": (900,)})
    result = Probe(model, tokenizer).what_if("a few words", [elsewhere], placebos=0)
    assert bool(calls) != looped
    np.testing.assert_array_equal(result.nll[0], result.nll[1])


def test_reference_numerics_are_the_loop():
    model = toy_model(numerics="reference")
    assert model.experts_used() == "eager"
    with pytest.raises(InputError, match='experts of numerics="reference" are "eager", got \'grouped_mm\''):
        model.set_experts_implementation("grouped_mm")
    with pytest.raises(InputError, match=r"must be .* got 'batched_mm'"):
        toy_model().set_experts_implementation("batched_mm")


def test_a_trace_says_which_it_was(tmp_path, tokenizer):
    toy_model(**ALIGNED, vocab_size=tokenizer.vocab_size).save_pretrained(tmp_path)
    model = MixtralForCausalLM.from_pretrained(tmp_path, experts_implementation="grouped_mm")
    assert model.experts_implementation == "grouped_mm"
    probe = Probe(model, tokenizer)
    assert probe.trace("a b c").meta.model["experts_implementation"] == "grouped_mm"
    edited = probe.trace("a b c", instruments=[Outputs()])
    assert edited.meta.model["experts_implementation"].startswith("eager")
