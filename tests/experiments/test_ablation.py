"""Ablation: the numbers of full runs and of transformers, at the cost of restarting at the edited layer."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixtral_probe import InputError, Probe, Result, tables
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import MaskExpert, ZeroExpert
from mixtral_probe.instruments.placebo import DamageAssignments, matched_assignments
from mixtral_probe.run import RunStoppedError
from tests.support.documents import DOCUMENTS
from tests.support.models import SIZES, ours_like, reference_model, toy_model
from tests.support.routing import pick


@pytest.fixture(scope="module")
def both(tokenizer):
    """A random model of transformers whose experts matter, and a probe of the same."""
    theirs = reference_model(vocab_size=8192, std=0.3, **SIZES)
    return theirs, Probe(ours_like(theirs, "fast"), tokenizer, "toy")


def losses(model, tokenizer, document):
    """[n] nll of all tokens but the first, by transformers."""
    ids = torch.tensor(tokenizer.encode(document["text"]).ids, dtype=torch.int64)
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none").double()


def test_zeroing_is_that_of_transformers_with_the_weights_zeroed_by_hand(both):
    theirs, probe = both
    result = probe.ablation(DOCUMENTS, semantics="zero", placebos=0)
    tokens = [len(probe.tokenizer.encode(d["text"]).ids) - 1 for d in DOCUMENTS]
    np.testing.assert_array_equal(result["tokens"], tokens)
    whole = [losses(theirs, probe.tokenizer, d).sum() for d in DOCUMENTS]
    np.testing.assert_allclose(result["nll"], whole, rtol=1e-5)
    for layer, expert in ((0, 1), (1, 6), (2, 3)):
        down = theirs.model.layers[layer].mlp.experts.down_proj
        kept = down[expert].clone()
        with torch.no_grad():
            down[expert] = 0
            expected = [losses(theirs, probe.tokenizer, d).sum() for d in DOCUMENTS]
            down[expert] = kept
        np.testing.assert_allclose(result["ablated"][layer, expert], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("semantics", "edit"),
    [("mask", MaskExpert), ("zero", ZeroExpert), ("zero_renorm", lambda **k: ZeroExpert(renormalise=True, **k))],
)
def test_the_numbers_are_those_of_whole_runs(both, semantics, edit):
    _, probe = both
    result = probe.ablation(DOCUMENTS, semantics=semantics, placebos=0, positions_in_a_batch=30)
    for layer in range(3):
        for expert in (0, 7):
            trace = probe.trace(DOCUMENTS, instruments=[edit(layer=layer, expert=expert)])
            expected = trace.tokens.groupby("document")["nll"].sum()
            np.testing.assert_allclose(result["ablated"][layer, expert], expected, rtol=1e-5)


def test_masking_an_expert_that_nobody_chose_changes_nothing(both):
    _, probe = both
    result = probe.ablation(DOCUMENTS[:1], placebos=0)
    unused = result["routed"].sum(-1) == 0
    trace = probe.trace(DOCUMENTS[:1])
    never = np.array([[not (trace.expert_ids[layer] == e).any() for e in range(8)] for layer in range(3)])
    assert never.any()
    assert (unused[never]).all()
    np.testing.assert_allclose(result["ablated"][never], np.broadcast_to(result["nll"], (never.sum(), 1)), rtol=1e-5)


def test_an_expert_with_constant_output_is_its_mean(both, tokenizer):
    probe = Probe(toy_model(3, vocab_size=8192, **SIZES), tokenizer, "toy")
    with torch.no_grad():
        probe.model.model.layers[1].block_sparse_moe.experts.down_proj.zero_()  # every output is 0, and so its mean
    result = probe.ablation(DOCUMENTS, semantics="mean", layers=[1])
    np.testing.assert_allclose(result["ablated"][0], np.broadcast_to(result["nll"], (8, 4)), rtol=1e-6)
    np.testing.assert_allclose(result["draws"][:, 0], np.broadcast_to(result["nll"], (7, 8, 4)), rtol=1e-6)
    changed = both[1].ablation(DOCUMENTS, semantics="mean", layers=[1], experts=[0, 1], placebos=0)
    assert changed["ablated"].shape == (1, 2, 4)
    assert (changed["ablated"] != changed["nll"]).any()


def test_a_mean_is_that_of_the_outputs_of_transformers(both):
    theirs, probe = both
    seen = []
    block = theirs.model.layers[1].mlp
    router, experts = [], block.experts
    hooks = [
        block.gate.register_forward_hook(lambda _m, _i, out: router.append(out)),
        experts.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].reshape(-1, inputs[0].shape[-1]))),
    ]
    outputs = []
    for document in DOCUMENTS:
        losses(theirs, probe.tokenizer, document)
        chosen, x = router[-1][-1], seen[-1]
        own = x[(chosen == 2).any(-1)]
        with torch.no_grad():
            gate, up = (own @ experts.gate_up_proj[2].T).chunk(2, dim=-1)
            outputs.append((torch.nn.functional.silu(gate) * up) @ experts.down_proj[2].T)
    for hook in hooks:
        hook.remove()
    for size in (30, 2048):
        edit = probe.mean_expert(DOCUMENTS, layer=1, expert=2, positions_in_a_batch=size)
        np.testing.assert_allclose(edit.mean, torch.cat(outputs).mean(0), atol=1e-5)
    one = probe.what_if(DOCUMENTS, [edit])
    swept = probe.ablation(DOCUMENTS, semantics="mean", layers=[1], experts=[2], placebos=0)
    nll = [np.nansum(one["nll"][1][one["token_document"] == d]) for d in range(4)]
    np.testing.assert_allclose(nll, swept["ablated"][0, 0], rtol=1e-5)


def test_a_mean_of_nothing_is_refused(both):
    _, probe = both
    trace = probe.trace("a")
    expert = next(e for e in range(8) if not (trace.expert_ids[0] == e).any())
    with pytest.raises(InputError, match=f"got none for layer 0, expert {expert}; give more"):
        probe.mean_expert("a", layer=0, expert=expert)
    with pytest.raises(InputError, match=r"layer must be in 0–2 \(this model has 3\), got 3"):
        probe.mean_expert("a", layer=3, expert=0)


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(("placebos", "semantics"), [(0, "mask"), (1, "mask"), (1, "mean"), (7, "mask")])
def test_a_sweep_costs_what_restarting_at_the_edited_layer_needs(tokenizer, placebos, semantics):
    sizes = SIZES | {"num_hidden_layers": 6}
    probe = Probe(toy_model(vocab_size=8192, **sizes), tokenizer, "toy")
    documents = [{"id": str(i), "text": "a truth universally acknowledged " * 4} for i in range(3)]
    ids = torch.tensor(tokenizer.encode(documents[0]["text"]).ids, dtype=torch.int64).expand(3, -1)
    needed = 0
    for layer in range(6):  # layers from the edited one on, and the head, are a model of fewer layers
        rest = toy_model(vocab_size=8192, **sizes | {"num_hidden_layers": 6 - layer})
        with torch.inference_mode():
            needed += 8 * (1 + placebos) * flops(lambda rest=rest: rest(ids, use_cache=False))
    spent = flops(lambda: probe.ablation(documents, placebos=placebos, semantics=semantics))
    assert needed < spent <= 1.1 * needed


def test_an_interrupted_sweep_continues(both, tmp_path):
    _, probe = both
    told, how = [], {"layers": [0, 2], "experts": [1, 4], "positions_in_a_batch": 30}
    whole = probe.ablation(DOCUMENTS, on_progress=told.append, **how)
    assert told[-1].tokens == told[-1].total_tokens == (1 + 2 * 2 * (1 + 7)) * sum(len_of(probe, d) for d in DOCUMENTS)
    calls = iter(range(1000))
    with pytest.raises(RunStoppedError):
        probe.ablation(DOCUMENTS, path=tmp_path / "a.result", should_stop=lambda: next(calls) > 6, **how)
    assert not (tmp_path / "a.result").exists()
    with pytest.raises(InputError, match="got an unfinished run with another model, text or settings"):
        probe.ablation(DOCUMENTS, path=tmp_path / "a.result", **how | {"layers": [1]})
    asked = []
    again = probe.ablation(DOCUMENTS, path=tmp_path / "a.result", should_stop=lambda: bool(asked.append(1)), **how)
    assert 0 < len(asked) < 8 * len(list(told)) / 2
    for held in (again, Result.load(tmp_path / "a.result")):
        for name, array in whole.arrays.items():
            np.testing.assert_array_equal(array, held[name])
    assert [p.name for p in tmp_path.iterdir()] == ["a.result"]


def test_every_draw_is_drawn_anew_and_does_not_depend_on_its_company(both):
    _, probe = both
    how = {"layers": [1], "experts": [2, 5], "seed": 4}
    whole = probe.ablation(DOCUMENTS, placebos=5, **how)
    for size in (1, 30):
        part = probe.ablation(DOCUMENTS, placebos=3, positions_in_a_batch=size, **how)
        np.testing.assert_allclose(part["draws"], whole["draws"][:3], rtol=1e-5)
    assert len(np.unique(whole["draws"][:, 0, 0, 1].round(5))) == 5
    assert (whole["log_arrangements"] >= 0).all()
    text = probe.trace(DOCUMENTS[:1])
    ids = text.expert_ids[1]
    first, second = ((ids[:, rank] == 2).sum() for rank in (0, 1))
    ways = math.comb(len(ids), first) * math.comb(len(ids) - first, second)
    assert whole["log_arrangements"][0, 0, 0] == pytest.approx(math.log(ways))


def len_of(probe, document):
    return len(probe.tokenizer.encode(document["text"]).ids)


def test_a_placebo_has_the_load_of_the_expert_rank_by_rank():
    ids = np.array([[0, 1], [1, 0], [2, 0], [0, 2], [3, 1], [1, 2], [9, 9], [0, 3]])
    windows = [Window(0, 0, 0, 4), Window(1, 0, 4, 2)]  # the last two rows are padding
    damaged = matched_assignments(ids, ids == 0, windows, 4, num_experts=10, seed=(5,))
    assert not damaged[6:].any()
    for own, first, second in ((slice(0, 4), 2, 2), (slice(4, 6), 0, 0)):
        hit = np.take_along_axis(damaged[own], ids[own], 1)
        assert hit[:, 0].sum() == first
        assert hit[:, 1].sum() == second
        assert (hit.sum(1) <= 1).all()
    alone = matched_assignments(ids[:4], ids[:4] == 0, windows[:1], 4, num_experts=10, seed=(5,))
    np.testing.assert_array_equal(damaged[:4], alone)
    many, all_of_them = np.tile(ids[:4], (8, 1)), [Window(0, 0, 0, 32)]
    other = matched_assignments(many, many == 1, all_of_them, 32, num_experts=10, seed=(6,))
    assert np.take_along_axis(other, many, 1).sum(0).tolist() == [8, 8]
    everybody = matched_assignments(many, many >= 0, all_of_them, 32, num_experts=10, seed=(6,))
    assert np.take_along_axis(everybody, many, 1).all()
    assert everybody.sum() == many.size


@pytest.mark.parametrize("semantics", ["mask", "zero", "zero_renorm"])
def test_damage_to_all_assignments_of_an_expert_is_its_ablation(both, semantics):
    _, probe = both
    tokens = torch.tensor(probe.tokenizer.encode(DOCUMENTS[1]["text"]).ids, dtype=torch.int64)[None]
    damaged = torch.zeros(tokens.numel(), 8, dtype=torch.bool)
    damaged[:, 4] = True
    edit = MaskExpert(layer=1, expert=4) if semantics == "mask" else ZeroExpert(
        layer=1, expert=4, renormalise=semantics == "zero_renorm"
    )  # fmt: skip
    with torch.no_grad():
        ours = probe.model(tokens, instruments=[DamageAssignments(1, damaged, semantics)]).logits
        known = probe.model(tokens, instruments=[edit]).logits
        plain = probe.model(tokens).logits
    torch.testing.assert_close(ours, known, rtol=0, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-3


@pytest.mark.usefixtures("two_documents_are_enough")
def test_the_table_pairs_documents(both):
    _, probe = both
    result = probe.ablation(DOCUMENTS, layers=[1], experts=[2, 5])
    table = tables.ablation(result)
    assert set(table["group"]) == {"all", "code", "prose"}
    own = pick(table, layer=1, expert=5, group="code").set_index("metric")
    lost = (result["ablated"] - result["nll"])[0, 1, [0, 2]]
    fake = (result["draws"] - result["nll"]).mean(0)[0, 1, [0, 2]]
    n = result["tokens"][[0, 2]].sum()
    assert own.loc["loss_increase", "value"] == pytest.approx(lost.sum() / n)
    assert own.loc["loss_increase", "null"] == pytest.approx(fake.sum() / n)
    assert own.loc["placebo_loss_increase", "value"] == pytest.approx(fake.sum() / n)
    assert own.loc["loss_increase_beyond_placebo", "value"] == pytest.approx((lost - fake).sum() / n)
    assert own.loc["loss_increase", "n"] == n
    assert own.loc["loss_increase_per_use", "n"] == result["routed"][0, 1, [0, 2]].sum()
    ends = own.loc["loss_increase", ["low", "high"]]
    assert ends["low"] <= own.loc["loss_increase", "value"] <= ends["high"]
    bare = tables.ablation(probe.ablation(DOCUMENTS[:2], layers=[1], placebos=0), by=None)
    names = {"loss_increase", "loss_increase_per_use", "loss_increase_rank", "selection_frequency"}
    assert set(bare["metric"]) == names
    assert bare["scope"][bare["metric"] == "loss_increase"].str.contains("no placebo was run").all()
    assert pick(bare, metric="loss_increase")["null"].isna().all()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"semantics": "forget"}, "semantics must be one of mask, zero, zero_renorm, mean, got 'forget'"),
        ({"layers": [3]}, r"layer must be in 0–2 \(this model has 3\), got 3"),
        ({"experts": [8]}, r"expert must be in 0–7 \(this model has 8\), got 8"),
        ({"layers": []}, "at least one layer and one expert"),
    ],
)
def test_what_does_not_exist_is_refused(both, how, sentence):
    with pytest.raises(InputError, match=sentence):
        both[1].ablation(DOCUMENTS, **how)
