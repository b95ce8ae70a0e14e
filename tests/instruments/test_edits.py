"""What each edit does: against transformers changed by hand, and against what follows from its sentence."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import mixtral_probe as mp
from mixtral_probe import InputError
from mixtral_probe.model import Site
from tests.support.instruments import IDS, Everything, logits
from tests.support.models import ours_like, reference_model, toy_model

edits = mp.edits
E, K = 12, 3  # of the toy model; it has 2 layers and 4 heads


def routing(model, *instruments):
    """Expert ids and weights as used, of each layer [T, K]."""
    seen = Everything(Site.ROUTING)
    logits(model, *instruments, seen)
    shown = [value for _, _, value in seen.seen]
    return [value.expert_ids for value in shown], [value.weights for value in shown]


class HandMadeRouter(torch.nn.Module):
    """The router of transformers with a change written into it."""

    def __init__(self, router, masked=(), top_k=K, dropped=None):
        super().__init__()
        self.router, self.masked, self.top_k, self.dropped = router, list(masked), top_k, dropped

    def forward(self, hidden):
        logits = F.linear(hidden.reshape(-1, hidden.shape[-1]), self.router.weight)
        logits[:, self.masked] = float("-inf")
        values, indices = torch.topk(F.softmax(logits.float(), dim=-1), self.top_k, dim=-1)
        values = values / values.sum(-1, keepdim=True)
        if self.dropped is not None:
            values = torch.where(indices == self.dropped, 0.0, values)
            values = values / values.sum(-1, keepdim=True)
        return logits, values, indices


BY_HAND = {
    "mask": (edits.MaskExpert(layer=1, expert=[2, 7]), {"masked": (2, 7)}),
    "fewer": (edits.TopK(layer=1, experts=1), {"top_k": 1}),
    "more": (edits.TopK(layer=1, experts=7), {"top_k": 7}),
    "zero, renormalised": (edits.ZeroExpert(layer=1, expert=4, renormalise=True), {"dropped": 4}),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_edits_of_the_router_equal_transformers_changed_by_hand(name):
    edit, change = BY_HAND[name]
    theirs = reference_model()
    ours = ours_like(theirs)
    with torch.no_grad():
        before = theirs(IDS).logits
        block = theirs.model.layers[1].mlp
        block.gate = HandMadeRouter(block.gate, **change)
        after = theirs(IDS).logits
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(logits(ours, edit), after, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "edit", [edits.ZeroExpert(layer=1, expert=4), edits.MeanExpert(layer=1, expert=4, mean=[0.0] * 24)]
)
def test_zero_equals_transformers_without_the_expert_s_weights(edit):
    theirs = reference_model()
    ours = ours_like(theirs)
    with torch.no_grad():
        theirs.model.layers[1].mlp.experts.down_proj[4] = 0
        after = theirs(IDS).logits
    assert (logits(ours) - after).abs().max() > 1e-3
    torch.testing.assert_close(logits(ours, edit), after, rtol=0, atol=1e-5)


def test_a_masked_head_equals_transformers_without_its_output_weights():
    theirs = reference_model()
    ours = ours_like(theirs)
    with torch.no_grad():
        theirs.model.layers[0].self_attn.o_proj.weight[:, 8:16] = 0  # head 1 of size 8
        after = theirs(IDS).logits
    for edit in (edits.MaskHead(layer=0, head=1), edits.ScaleHead(layer=0, head=1, factor=0)):
        torch.testing.assert_close(logits(ours, edit), after, rtol=0, atol=1e-5)


def test_masking_an_expert_that_is_never_chosen_changes_nothing():
    model = toy_model()
    unused = [5, 8]
    bias = edits.BiasRouter(layer=1, expert=unused, bias=-50)
    ids, weights = routing(model, bias)
    assert not torch.isin(ids[1], torch.tensor(unused)).any()
    masked, its_weights = routing(model, bias, edits.MaskExpert(layer=1, expert=unused))
    assert torch.equal(masked[1], ids[1])
    torch.testing.assert_close(its_weights[1], weights[1], rtol=0, atol=1e-5)
    both = logits(model, bias, edits.MaskExpert(layer=1, expert=unused))
    torch.testing.assert_close(both, logits(model, bias), rtol=0, atol=1e-5)


def test_with_identical_experts_only_silencing_one_matters():
    model = toy_model()
    with torch.no_grad():
        for layer in model.model.layers:
            experts = layer.block_sparse_moe.experts
            experts.gate_up_proj.copy_(experts.gate_up_proj[:1].expand_as(experts.gate_up_proj))
            experts.down_proj.copy_(experts.down_proj[:1].expand_as(experts.down_proj))
    plain = logits(model)
    for edit in (edits.MaskExpert(expert=3), edits.ForceExperts(expert=[0, 1, 2]), edits.TopK(experts=1),
                 edits.SwapExperts(expert=(2, 3)), edits.RandomRouting(), edits.NoiseRouter(std=1),
                 edits.ZeroExpert(expert=3, renormalise=True)):  # fmt: skip
        assert (logits(model, edit) - plain).abs().max() <= 1e-5, str(edit)
    assert (logits(model, edits.ZeroExpert(expert=3)) - plain).abs().max() > 1e-3


def test_edits_without_effect_are_without_effect_to_the_bit():
    model = toy_model()
    plain = logits(model)
    for edit in (edits.TopK(experts=K), edits.ZeroExpert(expert=3, position=100), edits.ScaleHead(head=0, factor=1),
                 edits.BiasRouter(expert=3, bias=0), edits.Temperature(temperature=1), edits.NoiseRouter(std=0),
                 edits.RandomRouting(share=0), edits.MaskExpert(expert=3, phase="decode"),
                 edits.TopK(experts=7, token_id=[51, 99])):  # fmt: skip
        assert torch.equal(logits(model, edit), plain), str(edit)


def test_forced_experts_are_exactly_those_with_the_softmax_of_their_logits():
    model = toy_model()
    seen = Everything(Site.ROUTER_LOGITS, Site.ROUTING)
    logits(model, edits.ForceExperts(expert=[7, 0, 11]), seen)
    for (_, _, router), (_, _, chosen) in zip(seen.seen[::2], seen.seen[1::2], strict=True):
        assert torch.equal(chosen.expert_ids.sort(1).values, torch.tensor([[0, 7, 11]]).expand(18, 3))
        theirs = torch.exp(router[:, [0, 7, 11]].double())
        expected = (theirs / theirs.sum(1, keepdim=True)).gather(
            1, torch.searchsorted(torch.tensor([0, 7, 11]), chosen.expert_ids)
        )
        torch.testing.assert_close(chosen.weights.double(), expected, rtol=0, atol=1e-6)
        assert (chosen.weights.diff(dim=1) <= 0).all()


def test_temperature_keeps_the_choice_and_changes_the_weights_as_it_says():
    model = toy_model()
    ids, weights = routing(model)
    warm, its_weights = routing(model, edits.Temperature(layer=0, temperature=2))
    assert torch.equal(ids[0], warm[0])
    roots = weights[0].sqrt()  # softmax(z / 2) ∝ sqrt(softmax(z))
    torch.testing.assert_close(its_weights[0], roots / roots.sum(1, keepdim=True))


def test_swapped_experts_have_each_other_s_tokens():
    ids, weights = routing(toy_model())
    swapped, same = routing(toy_model(), edits.SwapExperts(layer=0, expert=(2, 9)))
    exchange = torch.arange(E)
    exchange[[2, 9]] = torch.tensor([9, 2])
    assert torch.equal(swapped[0], exchange[ids[0]])
    assert torch.equal(same[0], weights[0])


def test_random_routing_keeps_every_load_and_is_drawn_the_same_in_any_batch():
    model = toy_model()
    ids, weights = routing(model)
    random, its_weights = routing(model, edits.RandomRouting(layer=0))
    for row in (slice(0, 9), slice(9, 18)):  # each document for itself
        assert torch.equal(ids[0][row].flatten().bincount(minlength=E), random[0][row].flatten().bincount(minlength=E))
        assert torch.equal(weights[0][row].flatten().sort().values, its_weights[0][row].flatten().sort().values)
    assert not torch.equal(ids[0], random[0])
    alone = logits(model, edits.RandomRouting(layer=0), ids=IDS[:1])
    torch.testing.assert_close(alone, logits(model, edits.RandomRouting(layer=0))[:1], rtol=0, atol=1e-5)
    other = routing(model, edits.RandomRouting(layer=0, seed=1))[0]
    assert not torch.equal(other[0], random[0])


def test_conditions_choose_tokens():
    model = toy_model()
    ids, _ = routing(model)
    forced = torch.tensor([1, 2, 3])
    at, _ = routing(model, edits.ForceExperts(layer=0, expert=[1, 2, 3], position=[4, 8]))
    hit = torch.tensor([4, 8, 13, 17])
    assert torch.equal(at[0][hit].sort(1).values, forced.expand(4, 3))
    rest = torch.tensor([t for t in range(18) if t not in hit])
    assert torch.equal(at[0][rest], ids[0][rest])
    token = int(IDS[0, 3])
    of_token, _ = routing(model, edits.ForceExperts(layer=0, expert=[1, 2, 3], token_id=token))
    same = (IDS == token).flatten()
    assert torch.equal(of_token[0][same].sort(1).values, forced.expand(int(same.sum()), 3))
    assert torch.equal(of_token[0][~same], ids[0][~same])
    some, weights = routing(model, edits.TopK(layer=0, experts=5, position=2))
    assert (some[0][[2, 11]] >= 0).all()
    assert (some[0].ge(0).sum(1) == torch.where(torch.arange(18) % 9 == 2, 5, 3)).all()
    torch.testing.assert_close(weights[0].sum(1), torch.ones(18))


def test_edits_work_in_the_order_given():
    model = toy_model()
    ids, _ = routing(model, edits.SwapExperts(layer=0, expert=(0, 1)), edits.TopK(layer=0, experts=3))
    assert torch.equal(ids[0], routing(model)[0][0])  # TopK chooses again, so nothing is left of the exchange
    ids, _ = routing(model, edits.TopK(layer=0, experts=1), edits.ForceExperts(layer=0, expert=6))
    assert (ids[0] == 6).all()


def test_a_function_changes_any_site():
    model = toy_model()
    half = edits.Function(layer=0, site="moe_output", function=lambda value, context: value / 2)
    doubled = edits.Function(layer=0, site="moe_output", function=lambda value, context: value * 2)
    assert torch.equal(logits(model, half, doubled), logits(model))
    nothing = edits.Function(layer=0, site="moe_output", function=lambda value, context: value * 0, position=0)
    silent = edits.TopK(layer=0, experts=1, position=0), edits.ZeroExpert(layer=0, expert=range(12), position=0)
    torch.testing.assert_close(logits(model, nothing), logits(model, *silent), rtol=0, atol=1e-5)


def test_two_threads_with_different_edits_on_one_model_do_not_mix():
    model = toy_model()
    chosen = [edits.MaskExpert(layer=0, expert=3), edits.ForceExperts(layer=1, expert=[1, 2, 3]), edits.TopK(experts=1)]
    expected = [logits(model, edit) for edit in chosen]
    wrong = []

    def work(edit, right):
        for _ in range(15):
            if not torch.equal(logits(model, edit), right):
                wrong.append(edit)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(chosen, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


TEXTS = [{"id": "a", "domain": "code", "text": "def add(a, b): return a + b"},
         {"id": "b", "domain": "prose", "text": "It was the best of times, it was the worst"},
         {"id": "c", "domain": "code", "text": "x = 1"}]  # fmt: skip


@pytest.fixture(scope="module")
def probe(small_probe):
    return small_probe


def test_replaying_its_own_routing_is_the_same_run_to_the_bit(probe, tmp_path):
    trace = probe.trace(TEXTS)
    again = probe.trace(TEXTS, instruments=[edits.ReplayRouting(trace=trace)])
    assert np.array_equal(trace.tokens["nll"], again.tokens["nll"], equal_nan=True)
    for name in ("router_logits", "expert_ids", "expert_weights"):
        assert np.array_equal(getattr(trace, name), getattr(again, name)), name
    with pytest.raises(InputError, match="got a trace without a path; save the trace first"):
        edits.to_json([edits.ReplayRouting(trace=trace)])
    trace.save(tmp_path / "kept.trace")
    from_file = edits.ReplayRouting(trace=tmp_path / "kept.trace", layer=1)
    noisy = probe.trace(TEXTS, instruments=[edits.BiasRouter(layer=1, expert=3, bias=9), from_file])
    assert np.array_equal(noisy.expert_ids, trace.expert_ids)
    assert not np.array_equal(noisy.router_logits, trace.router_logits)
    read = edits.from_json(edits.to_json([from_file]))[0]
    assert np.array_equal(read.trace.expert_ids, trace.expert_ids)


def test_replaying_long_documents_in_windows_is_the_same_run_too(probe):
    trace = probe.trace(TEXTS, window=4)
    again = probe.trace(TEXTS, window=4, instruments=[edits.ReplayRouting(trace=trace)])
    assert np.array_equal(trace.expert_weights, again.expert_weights)


def test_a_label_chooses_documents_and_the_record_says_what_was_done(probe):
    plain = probe.trace(TEXTS)
    edit = edits.ForceExperts(layer=0, expert=[6, 7], document={"domain": "code"})
    trace = probe.trace(TEXTS, instruments=[edit], positions_in_a_batch=16)
    code = trace.tokens["document"].isin([0, 2]).to_numpy()
    assert (np.sort(trace.expert_ids[0, code]) == [6, 7]).all()
    assert np.array_equal(trace.expert_ids[0, ~code], plain.expert_ids[0, ~code])
    assert trace.meta.instruments[0] == {
        "name": "ForceExperts", "layer": [0], "expert": [6, 7], "document": {"domain": ["code"]},
    }  # fmt: skip


def test_a_trace_has_room_for_as_many_experts_as_an_edit_chooses(probe):
    trace = probe.trace(TEXTS, instruments=[edits.TopK(layer=1, experts=3)])
    assert trace.expert_ids.shape[2] == 3
    assert (trace.expert_ids[0, :, 2] == -1).all()
    assert (trace.expert_ids[1] >= 0).all()
    fewer = probe.trace(TEXTS, instruments=[edits.TopK(layer=1, experts=1)], generate=3, eos_token_id=None)
    assert (fewer.expert_ids[1, :, 1] == -1).all()
    assert (fewer.expert_ids[0] >= 0).all()
    more = probe.trace(TEXTS, instruments=[edits.TopK(experts=4, phase="decode")], generate=3, eos_token_id=None)
    decoded = (more.tokens["phase"] == "decode").to_numpy()
    assert ((more.expert_ids >= 0).sum(2) == np.where(decoded, 4, 2)).all()


def test_a_function_of_attention_weights_works_through_the_engine_too(probe):
    def only_self(shown, context):
        return replace(shown, weights=torch.eye(shown.weights.shape[-1]).expand_as(shown.weights))

    edit = edits.Function(site="attention_weights", function=only_self)
    through = probe.trace(TEXTS[0]["text"], instruments=[edit])
    ids = torch.tensor([through.tokens["token_id"].tolist()])
    after = logits(probe.model, edit, ids=ids)[0].log_softmax(-1)
    by_hand = -after[:-1].gather(1, ids[0, 1:, None])[:, 0]
    np.testing.assert_allclose(through.tokens["nll"][1:], by_hand, atol=1e-5)
    assert (logits(probe.model, ids=ids)[0].log_softmax(-1) - after).abs().max() > 1e-3


def test_masked_experts_can_be_recorded(probe):
    trace = probe.trace(TEXTS, instruments=[edits.MaskExpert(expert=[1, 5])])
    assert not np.isin(trace.expert_ids, [1, 5]).any()
    assert np.isneginf(trace.router_logits[..., [1, 5]]).all()
