"""Experts as functions in a whole model: planted super experts, twins and promoters are found, and sums are right."""

import numpy as np
import pytest
import torch

from mixtral_probe import InputError, Probe, Result, tables
from tests.support.documents import DOCUMENTS
from tests.support.models import SIZES, ours_like, reference_model, toy_model
from tests.support.routing import pick


def probe_of(model, tokenizer):
    return Probe(model, tokenizer, "toy")


def toy(tokenizer, seed=0):
    return probe_of(toy_model(seed, vocab_size=8192, **SIZES), tokenizer)


def experts(probe, layer):
    return probe.model.model.layers[layer].block_sparse_moe.experts


@pytest.fixture(scope="module")
def measured(tokenizer):
    """A random model of transformers, the same as ours, and the result of ours."""
    theirs = reference_model(vocab_size=8192, **SIZES)
    probe = probe_of(ours_like(theirs, "fast"), tokenizer)
    return theirs, probe, probe.saliency(DOCUMENTS)


def test_saliency_is_what_transformers_modules_give_by_hand(measured):
    theirs, probe, result = measured
    inputs = {}
    for layer, block in enumerate(theirs.model.layers):
        block.mlp.experts.register_forward_hook(
            lambda _m, arguments, _out, layer=layer: inputs.setdefault(layer, []).append(arguments)
        )
    for document in DOCUMENTS:
        ids = probe.tokenizer.encode(document["text"]).ids
        with torch.no_grad():
            theirs(torch.tensor(ids, dtype=torch.int64)[None])
    table = tables.saliency(result)
    weights = theirs.model.layers[1].mlp.experts
    met = 0
    for expert in range(8):
        norms, gated, largest = [], [], [0.0]
        for x, chosen, gates in inputs[1]:
            mine = chosen == expert
            rows = x[mine.any(-1)]
            up, down = weights.gate_up_proj[expert], weights.down_proj[expert]
            a, b = (rows @ up.T).chunk(2, -1)
            out = (torch.nn.functional.silu(a) * b) @ down.T
            largest += out.abs().amax(-1).tolist()
            ordinary = torch.nonzero(mine.any(-1))[:, 0] > 0  # the first token is <s>
            norms += out.norm(dim=-1)[ordinary].tolist()
            gated += (out.norm(dim=-1) * (gates * mine).sum(-1)[mine.any(-1)])[ordinary].tolist()
        own = pick(table, layer=1, group="all", expert=expert).set_index("metric")
        assert own.loc["activation_norm", "n"] == len(norms)
        if not norms:
            continue
        met += 1
        assert own.loc["activation_norm", "value"] == pytest.approx(np.mean(norms), rel=1e-4)
        assert own.loc["reap", "value"] == pytest.approx(np.mean(gated), rel=1e-4)
        assert own.loc["largest_output", "value"] == pytest.approx(max(largest), rel=1e-4)
    assert met > 2
    assert not result["super_experts"].any()


def test_frequencies_are_those_of_a_trace(measured):
    _, probe, result = measured
    load = tables.expert_load(probe_stats(probe))
    table = tables.saliency(result)
    for metric, known in (("selection_frequency", "selection_frequency"), ("weighted_frequency", "gate_share")):
        for group in ("all", "code", "prose"):
            mine = pick(table, metric=metric, group=group).sort_values(["layer", "expert"])
            other = pick(load, metric=known, group=group).sort_values(["layer", "expert"])
            np.testing.assert_allclose(mine["value"], other["value"], atol=1e-5)
            np.testing.assert_allclose(mine["low"], other["low"], atol=1e-5)


def probe_stats(probe):
    from mixtral_probe import RoutingStats

    return RoutingStats.from_trace(probe.trace(DOCUMENTS), by="domain")


def test_batches_do_not_matter_and_a_saved_result_gives_the_same_tables(measured, tmp_path):
    _, probe, result = measured
    alone = probe.saliency(DOCUMENTS, positions_in_a_batch=1)
    saved = Result.load(result.save(tmp_path / "a.result"))
    for table in (tables.saliency, tables.promoted_tokens, tables.expert_contexts):
        a, b, c = (table(held) for held in (result, alone, saved))
        assert a.equals(c)
        floats = ["value", "corrected", "low", "high", "null", "logit", "contribution"]
        assert a.drop(columns=floats, errors="ignore").equals(b.drop(columns=floats, errors="ignore"))
        for column in set(floats) & set(a):
            np.testing.assert_allclose(a[column], b[column], rtol=1e-3, atol=1e-4)


def test_experts_of_constant_size_have_that_size(tokenizer):
    """Two neurons with w1 = w3 = ±unit vector add a² sigmoid(a) + a² sigmoid(−a) = a²: over a normed input, C."""
    probe, width = probe_of(toy_model(vocab_size=8192, **SIZES | {"intermediate_size": 48}), tokenizer), 24
    layer, sizes = probe.model.model.layers[2], torch.arange(1.0, 9.0)
    with torch.no_grad():
        layer.post_attention_layernorm.weight.fill_(1)
        layer.block_sparse_moe.gate.weight.zero_()  # all weights 1/2
        units = torch.cat([torch.eye(width), -torch.eye(width)])
        layer.block_sparse_moe.experts.gate_up_proj.copy_(torch.cat([units, units]).expand(8, -1, -1))
        layer.block_sparse_moe.experts.down_proj.zero_()
        layer.block_sparse_moe.experts.down_proj[:, 0] = sizes[:, None] / width
    table = pick(tables.saliency(probe.saliency(DOCUMENTS)), layer=2, group="all")
    for metric, factor in (("activation_norm", 1), ("reap", 0.5), ("largest_output", 1)):
        own = pick(table[table["n"] > 0], metric=metric)
        assert len(own) >= 2
        np.testing.assert_allclose(own["value"], factor * (own["expert"].to_numpy(float) + 1), rtol=1e-3)


def test_a_planted_super_expert_is_the_only_one(tokenizer):
    probe = toy(tokenizer)
    with torch.no_grad():
        experts(probe, 1).down_proj[3, 7] *= 1e6
    result = probe.saliency(DOCUMENTS)
    np.testing.assert_array_equal(np.argwhere(result["super_experts"]), [[1, 3]])
    table = tables.saliency(result)
    assert pick(table, metric="super_expert")["value"].sum() == 1
    largest = pick(table, metric="largest_output", layer=1, expert=3).iloc[0]
    assert largest["value"] > largest["null"]


def test_an_expert_that_writes_a_tokens_unembedding_promotes_that_token(tokenizer):
    probe, token = toy(tokenizer), 4321
    block, head = experts(probe, 1), probe.model.lm_head.weight
    with torch.no_grad():
        probe.model.model.norm.weight.fill_(1)
        half = block.gate_up_proj.shape[1] // 2
        block.gate_up_proj[5, half:] = block.gate_up_proj[5, :half]  # silu(a) a is never negative
        block.down_proj[5] = 10 * head[token][:, None]
    table = tables.promoted_tokens(probe.saliency(DOCUMENTS, promoted=3))
    own = pick(table, layer=1, expert=5)
    assert own["token_id"].iloc[0] == token
    assert own["token"].iloc[0] == tokenizer.pieces([token])[0]
    assert own["place"].tolist() == [0, 1, 2]
    assert own["logit"].is_monotonic_decreasing


def test_contexts_are_where_the_contribution_is_largest(measured):
    _, _, result = measured
    table = tables.expert_contexts(result)
    own = pick(table, layer=0, expert=2)
    assert own["contribution"].is_monotonic_decreasing
    assert (own["position"] > 0).all()  # <s> is special
    for row in own.itertuples():
        assert row.before.removeprefix("<s>") + row.token + row.after in " " + DOCUMENTS[row.document]["text"]
    assert len(own) == min(8, own["n"].iloc[0])


def test_a_neuron_permuted_twin_is_found(tokenizer):
    probe = toy(tokenizer)
    block, order = experts(probe, 1), torch.arange(20).roll(7)
    with torch.no_grad():
        w1, w3 = block.gate_up_proj[2].chunk(2)
        block.gate_up_proj[6] = torch.cat([w1[order], w3[order]])
        block.down_proj[6] = block.down_proj[2][:, order]
    table = tables.expert_similarity(probe.similarity(DOCUMENTS))
    twins = pick(table, layer=1, expert=2, other_expert=6).set_index("metric")["value"]
    for metric in ("aligned_cosine", "output_cosine", "linear_cka", "neuron_mean_cosine"):
        assert twins[metric] == pytest.approx(1, abs=1e-5)
    assert twins["output_angular"] == pytest.approx(1, abs=1e-3)  # the angle is steep near 0
    assert abs(twins["weight_cosine"]) < 0.15
    assert twins["alignment_tau"] < 0.9
    others = pick(table, metric="aligned_cosine", layer=1, expert=2)
    assert (others[others["other_expert"] != 6]["value"] < 0.6).all()


def test_weights_alone_need_no_text(tokenizer):
    table = tables.expert_similarity(toy(tokenizer).similarity(align=False))
    assert set(table["metric"]) == {"weight_cosine", "neuron_mean_cosine", "gate_cosine", "gate_weight_correlation"}
    assert len(pick(table, metric="gate_cosine")) == 3 * 8 * 7


def test_places_in_both_orders_add_up(tokenizer):
    result = toy(tokenizer).similarity(DOCUMENTS, tokens=20)
    table = tables.norm_gate_ranks(result)
    assert table.groupby(["layer", "gate_rank"])["value"].sum().round(9).eq(1).all()
    assert table["n"].eq(20).all()
    assert result["sampled"].sum() == 20


def test_all_subsets_are_tried_and_more_experts_lose_less(tokenizer):
    result = toy(tokenizer).expert_subsets(DOCUMENTS, sizes=[4, 6, 8], tokens=20)
    table = tables.expert_subsets(result)
    assert table.groupby(["layer", "size"]).size().unstack().to_numpy().tolist() == [[70, 28, 1]] * 3
    best = table.groupby(["layer", "size"])["value"].min().unstack()
    assert (best[8] == 0).all()
    assert (best[6] <= best[4]).all()


def test_tables_refuse_results_of_another_kind(measured):
    with pytest.raises(InputError, match="made of a result of the kind 'expert_similarity', got one of 'saliency'"):
        tables.expert_similarity(measured[2])
    with pytest.raises(InputError, match="must have the label 'colour', but theirs are domain"):
        tables.saliency(measured[2], by="colour")


def test_too_few_tokens(tokenizer):
    with pytest.raises(InputError, match="at least 2 tokens, got 1; give more"):
        toy(tokenizer).similarity(DOCUMENTS, tokens=1)
