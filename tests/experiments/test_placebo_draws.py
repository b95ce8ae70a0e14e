"""Draws of a placebo: each is a whole run with random damage, however they are batched; their range has its level."""

import numpy as np
import pytest
import torch

import mixtral_probe as mp
from mixtral_probe import Probe
from mixtral_probe.experiments.matched_placebo import Damage, RecordedRouting
from mixtral_probe.instruments import Window
from mixtral_probe.instruments.placebo import matched_assignments
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.scoring import next_token_scores
from tests.support.models import SIZES, toy_model

edits = mp.edits
TEXTS = [{"id": "a", "domain": "code", "text": "def add(a, b): return a + b"},
         {"id": "b", "domain": "prose", "text": "It was the best of times, it was the worst of times"},
         {"id": "c", "domain": "code", "text": "x = 1"}]  # fmt: skip
EDIT = edits.MaskExpert(layer=1, expert=[2, 3], document={"domain": "code"})


@pytest.fixture(scope="module")
def probe(tokenizer):
    return Probe(toy_model(std=0.3, vocab_size=8192, **SIZES), tokenizer, "toy")


@pytest.fixture(scope="module")
def result(probe):
    return probe.what_if(TEXTS, [EDIT], placebos=5, seed=3)


def of_documents(result, values):
    """[documents] sums of values [T] over tokens that are not special."""
    return np.bincount(result.token_document, np.where(result.special, 0, np.nan_to_num(values)), 3)


def test_every_draw_is_a_whole_run_with_as_much_damage(probe, result):
    base = RecordedRouting(result.expert_ids[0], result.expert_weights[0])
    code = np.isin(result.token_document, (0, 2))
    touched = np.isin(base.expert_ids, (2, 3)) & (np.arange(3) == 1)[:, None, None] & code[:, None]
    damage = Damage(EDIT, base, touched, "mask", 8, 3)
    planned = probe.plan(TEXTS, window=64)
    batch = Batch.of(planned.token_ids, planned.windows, torch.device("cpu"))
    for draw in range(5):
        (instrument,) = damage.instruments(batch, [draw])
        assert np.bincount(planned.tokens["document"], instrument.damaged[batch.flat].sum(1), 3).tolist() == [
            touched[:, result.token_document == document].sum() for document in range(3)
        ]
        with torch.inference_mode():
            out = probe.model.model(batch.ids, instruments=[instrument])
            nll, predicted = next_token_scores(probe.model, out.last_hidden_state, batch.ids, out.context)
        nll, predicted = (values.reshape(-1)[batch.flat].numpy() for values in (nll, predicted))
        np.testing.assert_allclose(result.draw_nll[draw], of_documents(result, nll), rtol=1e-5)
        changed = of_documents(result, predicted != result.predicted_id[0])
        np.testing.assert_array_equal(result.draw_changed[draw], changed)
    assert len({tuple(row) for row in result.draw_nll.round(6).tolist()}) == 5


def test_the_sums_of_the_first_draw_are_those_of_its_tokens(result):
    np.testing.assert_allclose(result.draw_nll[0], of_documents(result, result.nll[2]), rtol=1e-6)
    np.testing.assert_allclose(result.draw_bits[0], of_documents(result, result.bits[2]), rtol=1e-5)
    base, first = (np.sort(result.expert_ids[run]) for run in (0, 2))
    for layer in range(3):
        moved = of_documents(result, (base[layer] != first[layer]).any(-1))
        np.testing.assert_array_equal(result.draw_rerouted[0, layer], moved)
        chosen = result.expert_ids[2, layer][~result.special]
        assert result.draw_used[0, layer].tolist() == np.bincount(chosen.ravel(), minlength=8).tolist()
    assert (result.draw_used.sum(-1) == 2 * (~result.special).sum()).all()
    np.testing.assert_array_equal(result.draw_probability[0], result.probability[2])


def test_what_no_draw_damages_stays_as_it_is_to_the_bit(result):
    prose = result.token_document == 1
    base = of_documents(result, result.nll[0].astype(float))
    assert (result.draw_nll[:, 1] == base[1]).all()
    assert not result.draw_bits[:, 1].any()
    assert not result.draw_rerouted[:, 0].any()  # the layer below
    assert np.array_equal(result.nll[0][prose], result.nll[2][prose], equal_nan=True)
    assert not result.token_draw_high[prose].any()


def test_draws_do_not_depend_on_how_they_are_batched(probe, result):
    for positions in (1, 40):
        other = probe.what_if(TEXTS, [EDIT], placebos=5, seed=3, positions_in_a_batch=positions)
        for name in ("draw_nll", "draw_bits", "draw_probability", "token_draw_mean", "token_draw_low"):
            np.testing.assert_allclose(other[name], result[name], atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(other.draw_rerouted, result.draw_rerouted)


def test_more_draws_begin_with_the_same_ones(probe, result):
    more = probe.what_if(TEXTS, [EDIT], placebos=8, seed=3)
    np.testing.assert_allclose(more.draw_nll[:5], result.draw_nll, rtol=1e-6)


def test_windows_of_a_document_are_drawn_one_by_one(probe):
    whole, small = (probe.what_if(TEXTS, [EDIT], placebos=4, window=4, positions_in_a_batch=size) for size in (2048, 8))
    np.testing.assert_allclose(whole.draw_nll, small.draw_nll, rtol=1e-5)


def test_the_band_of_a_token_is_the_range_of_its_draws(probe, result):
    alone = [probe.what_if(TEXTS, [EDIT], placebos=number, seed=3) for number in range(1, 6)]
    change = [one.token_draw_mean * number for number, one in enumerate(alone, start=1)]
    draws = np.diff(np.stack([np.zeros_like(change[0]), *change]), axis=0)  # [5, T] of each draw
    known = ~np.isnan(result.nll[0])
    np.testing.assert_allclose(result.token_draw_low[known], draws.min(0)[known], atol=1e-5)
    np.testing.assert_allclose(result.token_draw_high[known], draws.max(0)[known], atol=1e-5)


def test_other_heads_are_drawn_one_set_after_the_other(probe):
    edit = edits.ScaleHead(layer=[0, 2], head=1, factor=0.0, position=range(1, 9))
    result = probe.what_if(TEXTS, [edit], placebos=39)
    assert result.draws == result.arrangements == 3  # of four heads, three are others
    each = [probe.what_if(TEXTS, [edits.ScaleHead(layer=[0, 2], head=head, factor=0.0, position=range(1, 9))],
                          placebos=0) for head in (0, 2, 3)]  # fmt: skip
    known = [of_documents(one, one.nll[1]) for one in each]
    np.testing.assert_allclose(sorted(result.draw_nll.sum(1)), sorted(np.sum(known, 1)), rtol=1e-6)
    assert result.placebo_sentences == [
        "in layers 0, 2, at positions 1–8: the same with another head, one of 3 choices"
    ]


def test_two_edits_are_drawn_together(probe):
    both = probe.what_if(TEXTS, [EDIT, edits.MaskHead(layer=0, head=0)], placebos=6)
    assert both.draws == 6
    assert len(both.placebo_sentences) == 2
    assert both.draw_rerouted[:, 0].any(), "the heads of layer 0 move its routing"


@pytest.mark.parametrize(
    ("edit", "draws"),
    [(edits.TopK(experts=2), 1), (edits.MaskExpert(layer=1, expert=3, position=63), 1),
     (edits.Function(site="moe_output", function=lambda value, _: value), 0)],
)  # fmt: skip
def test_a_placebo_that_can_turn_out_in_one_way_is_drawn_once(probe, edit, draws):
    result = probe.what_if(TEXTS, [edit])
    assert result.draws == draws
    assert not mp.tables.what_if(result)["placebo_low"].notna().any()


def null_edit(seed, layer=1, touched=(4, 3)):
    """An edit that masks random assignments, as many of each rank as a placebo of itself."""

    def damage(logits, context):
        ids = logits.topk(2).indices.numpy()
        rows = np.arange(len(ids))[:, None] < list(touched)
        some = matched_assignments(ids, rows, [Window(0, 0, 0, len(ids))], len(ids), num_experts=8, seed=(seed,))
        return logits.masked_fill(torch.from_numpy(some), -torch.inf)

    return edits.Function(layer=layer, site="router_logits", function=damage)


def share_outside(probe, runs, draws):
    """How often a null edit lies outside the range of its placebo's draws, by metric."""
    outside = []
    for run in range(runs):
        table = probe.what_if(TEXTS[:1], [null_edit(10_000 + run)], placebos=draws, seed=3 * run).overall()
        row = table[table["run"] == "edited"].set_index("metric").loc[["loss_change", "divergence_bits"]]
        assert row["placebo_draws"].eq(draws).all()
        beyond = (row["value"] < row["placebo_low"]) | (row["value"] > row["placebo_high"])
        assert (beyond == (row["p"] <= 2 / (draws + 1) + 1e-9)).all()
        outside.append(beyond)
    return np.mean(outside, axis=0)


def assert_level(shares, runs, draws):
    expected = 2 / (draws + 1)
    error = 2 * np.sqrt(expected * (1 - expected) / runs)
    assert (np.abs(shares - expected) <= error).all(), shares


def test_a_null_edit_is_outside_its_band_as_often_as_the_level_says(probe):
    assert_level(share_outside(probe, 40, 7), 40, 7)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [19, 39])
def test_a_null_edit_is_outside_its_band_as_often_as_the_level_says_in_many_runs(probe, draws):
    assert_level(share_outside(probe, 1000, draws), 1000, draws)
