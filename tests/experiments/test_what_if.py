"""What a what-if reports: against two plain runs, against transformers changed by hand, and against itself."""

from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch

import mixtral_probe as mp
from mixtral_probe import InputError
from mixtral_probe.experiments.matched_placebo import Damage, RecordedRouting
from mixtral_probe.run import RunStoppedError
from mixtral_probe.run.batch import Batch
from mixtral_probe.run.calibration import Calibration
from mixtral_probe.run.scoring import next_token_scores
from mixtral_probe.trace import WhatIf

edits = mp.edits
TEXTS = [{"id": "a", "domain": "code", "text": "def add(a, b): return a + b"},
         {"id": "b", "domain": "prose", "text": "It was the best of times, it was the worst of times"},
         {"id": "c", "domain": "code", "text": "x = 1"}]  # fmt: skip
FORCED = edits.ForceExperts(layer=1, expert=[6, 7], document={"domain": "code"})


@pytest.fixture(scope="module")
def probe(small_probe):
    return small_probe


@pytest.fixture(scope="module")
def result(probe):
    return probe.what_if(TEXTS, [FORCED], placebos=9, generate=3)


def logits(probe, document, *instruments):
    """[S, V] float64 of one document by itself."""
    ids = torch.tensor([probe.tokenizer.encode(TEXTS[document]["text"]).ids.tolist()])
    with torch.inference_mode():
        return probe.model(ids, instruments=instruments).logits[0].double(), ids[0]


def test_both_sides_are_what_two_plain_runs_give(probe, result):
    for run, instruments in ((0, ()), (1, (FORCED,))):
        trace = probe.trace(TEXTS, instruments=instruments)
        assert np.array_equal(result["expert_ids"][run], trace.expert_ids)
        assert np.array_equal(result["expert_weights"][run], trace.expert_weights)
        np.testing.assert_allclose(result["nll"][run], trace.tokens["nll"], atol=1e-5)
        assert np.array_equal(result["predicted_id"][run], trace.tokens["predicted_id"])


def test_divergence_and_candidates_are_those_of_the_logits(probe, result):
    everywhere = edits.ForceExperts(layer=1, expert=[6, 7])
    for document, changes in ((0, (everywhere,)), (1, ())):
        before, after = (logits(probe, document, *some)[0].log_softmax(-1) for some in ((), changes))
        rows = result["token_document"] == document
        np.testing.assert_allclose(
            result["bits"][1, rows], (before.exp() * (before - after)).sum(-1) / np.log(2), atol=1e-5
        )
        ids = result["candidate_id"][document]
        ids = ids[ids >= 0]
        assert set(ids) == {*before[-1].topk(20).indices.tolist(), *after[-1].topk(20).indices.tolist()}
        for run, side in enumerate((before, after)):
            np.testing.assert_allclose(result["probability"][run, document, : len(ids)], side[-1, ids].exp(), atol=1e-6)
            order = side[-1].argsort(descending=True).tolist()
            assert [order.index(token) for token in ids] == result["rank"][run, document, : len(ids)].tolist()


@pytest.mark.usefixtures("two_documents_are_enough")
def test_the_table_adds_up_and_its_interval_is_the_paired_jackknife(result):
    table = mp.tables.what_if(result)
    change = table[(table["metric"] == "loss_change") & (table["run"] == "edited")]
    whole = change[change["document"].isna()].iloc[0]
    scored = ~np.isnan(result["nll"][0]) & ~result["special"]
    each = (result["nll"][1] - result["nll"][0]).astype(np.float64)
    sums = np.array([each[scored & (result["token_document"] == d)].sum() for d in range(3)])
    sizes = np.array([(scored & (result["token_document"] == d)).sum() for d in range(3)])
    assert whole["value"] == pytest.approx(sums.sum() / sizes.sum())
    assert whole["n"] == sizes.sum()
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    error = np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    center = 3 * whole["value"] - 2 * without.mean()
    assert whole["low"] + whole["high"] == pytest.approx(2 * center)
    assert whole["high"] - whole["low"] > 2 * 1.96 * error  # t quantiles are wider than normal ones
    of_documents = change[change["document"].notna()]
    np.testing.assert_allclose(of_documents["value"], sums / sizes)
    assert of_documents["value"].iloc[1] == pytest.approx(0, abs=1e-6)  # prose was left alone
    shares = table[(table["metric"] == "share") & (table["run"] == "edited")]
    np.testing.assert_allclose(shares.groupby("layer")["value"].sum(), 1)
    np.testing.assert_allclose(shares.groupby("layer")["null"].sum(), 1)


def lost(result, run):
    """[L, T, K] assignments of the run without edits that another has not."""
    base, other = result["expert_ids"][0], result["expert_ids"][run]
    return ~(base[..., None] == other[..., None, :]).any(-1)


def test_the_placebo_stands_beside_and_takes_as_many_assignments(result):
    assert result.axis("run") == ("base", "edited", "placebo")
    for document in range(3):
        own = result["token_document"] == document
        edited, placebo = (lost(result, run)[:, own].sum(1) for run in (1, 2))
        assert np.array_equal(edited, placebo)  # by layer and rank
    assert lost(result, 1)[1].any()
    prose = result["token_document"] == 1
    assert np.array_equal(result["expert_ids"][0][:, prose], result["expert_ids"][2][:, prose])
    table = mp.tables.what_if(result)
    whole = table[table["layer"].isna() & table["document"].isna()].set_index(["run", "metric"])
    for metric in ("loss_change", "divergence_bits", "prediction_changed", "rerouted"):
        assert whole.loc[("edited", metric), "null"] == pytest.approx(whole.loc[("placebo", metric), "value"])


def test_the_band_is_the_range_of_the_draws_and_the_rank_a_place_among_them(result):
    table = mp.tables.what_if(result).set_index("run")
    scored = (~np.isnan(result.nll[0]) & ~result.special).sum()
    base, edited = (np.nansum(np.where(result.special, 0, result.nll[run]), dtype=float) for run in (0, 1))
    draws = np.sort((result.draw_nll.sum(1) - base) / scored)
    row = table.loc["edited"].query("metric == 'loss_change' and document.isna()").iloc[0]
    assert result.draws == row["placebo_draws"] == 9
    assert row["null"] == pytest.approx(draws.mean())
    assert (row["placebo_low"], row["placebo_high"]) == pytest.approx((draws[0], draws[-1]))
    above = (draws > (edited - base) / scored).sum()
    assert row["placebo_rank"] == 1 + above
    assert row["p"] == pytest.approx(min(1, 2 * (1 + min(above, 9 - above)) / 10))
    assert "band: range of 9 draws of the placebo, which holds an exchangeable one in 80 % of cases" in row["scope"]
    placebo = table.loc["placebo"].query("metric == 'loss_change' and document.isna()").iloc[0]
    assert placebo["value"] == pytest.approx(draws.mean())
    assert "mean of 9 draws" in placebo["scope"]
    code = table.loc["edited"].query("metric == 'loss_change' and document == 0").iloc[0]
    change = result.draw_nll[:, 0] - np.nansum(np.where(result.special, 0, result.nll[0])[result.token_document == 0])
    assert code["placebo_high"] == pytest.approx(change.max() / code["n"], abs=1e-6)
    shares = table.loc["placebo"].query("metric == 'share' and layer == 1").set_index("expert")
    used = result.draw_used[:, 1] / result.draw_used[:, 1].sum(-1, keepdims=True)
    np.testing.assert_allclose(shares["value"], used.mean(0))
    np.testing.assert_allclose(shares["placebo_low"], used.min(0))
    np.testing.assert_allclose(shares["placebo_high"], used.max(0))


def test_tokens_and_next_tokens_have_their_bands(result):
    tokens, following = mp.tables.what_if_tokens(result), mp.tables.what_if_next_tokens(result)
    known = tokens["nll"].notna()
    assert (tokens["placebo_low"] <= tokens["loss_change_placebo"])[known].all()
    assert tokens.loc[~known, ["loss_change_placebo", "placebo_low", "placebo_high"]].isna().all(axis=None)
    draws = result.draw_probability[:, following["document"].astype(int), following["candidate"].astype(int)]
    np.testing.assert_allclose(following["probability_placebo"], draws.mean(0, dtype=float))
    np.testing.assert_allclose(following["placebo_low"], draws.min(0))
    np.testing.assert_allclose(following["placebo_high"], draws.max(0))
    ranks = 1 + (draws > following["probability_edited"].to_numpy()).sum(0)
    assert following["placebo_rank"].tolist() == ranks.tolist()


def test_few_draws_or_few_arrangements_say_so(probe):
    one = mp.tables.what_if(probe.what_if(TEXTS, [FORCED], placebos=1))
    assert one["scope"].str.contains("1 draw of the placebo: no band").all()
    assert one[["placebo_low", "placebo_rank", "p"]].isna().all(axis=None)
    none = mp.tables.what_if(probe.what_if(TEXTS, [FORCED], placebos=0))
    assert none["scope"].str.contains("no placebo was run").all()
    heads = mp.tables.what_if(probe.what_if(TEXTS, [edits.MaskHead(layer=0, head=1)]))
    assert heads["placebo_draws"].eq(3).all()
    edited = heads[heads["run"] == "edited"]
    assert edited["scope"].str.contains("the placebo can turn out in 3 ways: no p-value").all()
    assert edited["p"].isna().all()
    assert edited.query("metric == 'loss_change'")["placebo_rank"].notna().all()


@pytest.mark.parametrize(
    "edit",
    [edits.MaskExpert(layer=1, expert=3), edits.BiasRouter(layer=1, expert=[2, 3], bias=0.01, position=range(6)),
     edits.SwapExperts(layer=1, expert=(1, 4), document={"domain": "code"})],
)  # fmt: skip
def test_a_placebo_takes_as_many_assignments_of_each_rank_as_the_edit(probe, edit):
    result = probe.what_if(TEXTS, [edit], placebos=2)
    assert lost(result, 1).any()
    for document in range(3):
        own = result["token_document"] == document
        assert np.array_equal(lost(result, 1)[:, own].sum(1), lost(result, 2)[:, own].sum(1))


@pytest.mark.parametrize("semantics", ["mask", "zero", "zero_renorm"])
def test_edits_and_ablation_have_one_placebo(probe, semantics):
    edit = edits.MaskExpert(layer=1, expert=3) if semantics == "mask" else edits.ZeroExpert(
        layer=1, expert=3, renormalise=semantics == "zero_renorm"
    )  # fmt: skip
    result = probe.what_if(TEXTS, [edit], placebos=2, seed=2)
    base = result["expert_ids"][0]
    damage = Damage(edit, RecordedRouting(base, result["expert_weights"][0]), base == 3, semantics, 8, 2)
    assert f"{(base[1] == 3).sum()} assignments" in result.meta["placebo"][0]
    planned = probe.plan(TEXTS, window=64)
    batch = Batch.of(planned.token_ids, planned.windows, torch.device("cpu"))
    (instrument,) = [one for one in damage.instruments(batch, [0]) if one.layer == 1]
    with torch.inference_mode():
        out = probe.model.model(batch.ids, instruments=[instrument])
        nll, _ = next_token_scores(probe.model, out.last_hidden_state, batch.ids, out.context)
    np.testing.assert_allclose(result["nll"][2, batch.rows], nll.reshape(-1)[batch.flat], atol=1e-5)
    assert instrument.damaged.sum() == (base[1] == 3).sum()


@pytest.mark.parametrize(
    "edit", [edits.TopK(experts=2), edits.Temperature(temperature=1), edits.BiasRouter(expert=2, bias=0),
             edits.MaskExpert(layer=1, expert=3, phase="decode"), edits.ZeroExpert(expert=1, position=63)]
)  # fmt: skip
def test_the_placebo_of_an_edit_that_changes_nothing_changes_nothing(probe, edit):
    result = probe.what_if(TEXTS, [edit], placebos=2)
    assert result.meta["placebo"][0].startswith("nowhere: 0 ")
    assert np.array_equal(result["nll"][0], result["nll"][2], equal_nan=True)


def test_where_weights_alone_change_the_placebo_exchanges_them(probe):
    result = probe.what_if(TEXTS, [edits.Temperature(layer=1, temperature=2)])
    assert np.array_equal(result["expert_ids"][0], result["expert_ids"][2])
    for document in range(3):
        own = result["token_document"] == document
        base, placebo = (result["expert_weights"][run, 1, own] for run in (0, 2))
        assert np.array_equal(np.sort(base[:, 0]), np.sort(placebo[:, 0]))
        assert (base != placebo).any()


def test_heads_have_other_heads_as_placebo(probe):
    result = probe.what_if("x = 1", [edits.MaskHead(layer=0, head=[1, 2])])
    assert result.meta["placebo"][0].startswith("in layer 0: the output of attention heads 0, 3 is 0")


def test_edits_without_effect_change_nothing_to_the_bit(probe):
    result = probe.what_if(TEXTS, [edits.TopK(experts=2)], placebos=0)
    assert np.array_equal(result["nll"][0], result["nll"][1], equal_nan=True)
    assert np.array_equal(result["expert_weights"][0], result["expert_weights"][1])
    assert not np.nan_to_num(result["bits"]).any()
    table = mp.tables.what_if(result)
    assert (table.loc[table["metric"] == "loss_change", "value"] == 0).all()
    assert set(table["run"]) == {"edited"}


def test_documents_in_windows_and_batches_give_the_same(probe):
    whole, batch_of_one = (probe.what_if(TEXTS, [FORCED], window=4, positions_in_a_batch=size) for size in (2048, 1))
    np.testing.assert_allclose(whole["nll"], batch_of_one["nll"], atol=1e-5)
    assert np.array_equal(whole["expert_ids"], batch_of_one["expert_ids"])


def test_progress_ends_when_all_is_done_and_counts_every_draw(probe):
    reports = []
    result = probe.what_if(TEXTS, [FORCED], on_progress=reports.append)
    assert (reports[-1].documents, reports[-1].tokens) == (reports[-1].total_documents, reports[-1].total_tokens)
    lengths = np.bincount(result.token_document)
    # Without and with the edits, then for the two documents that a draw changes: without them, and every draw.
    assert reports[-1].tokens == 2 * lengths.sum() + (1 + 39) * (lengths[0] + lengths[2])


def test_a_run_stops_between_draws(probe):
    reports, calls = [], []
    with pytest.raises(RunStoppedError):
        probe.what_if(
            TEXTS, [FORCED], on_progress=reports.append, should_stop=lambda: bool(calls.append(1)) or len(calls) > 6,
            positions_in_a_batch=1,
        )  # fmt: skip
    assert 0 < reports[-1].tokens < reports[-1].total_tokens


def test_the_estimate_counts_the_draws_and_where_they_begin(probe, monkeypatch):
    free = Calibration((1,), (0.0,), 0.0, 1e-3, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(import_module("mixtral_probe.run.estimate"), "calibrate", lambda model: free)
    monkeypatch.setattr(import_module("mixtral_probe.experiments.estimates"), "measured", lambda *how: 0.0)
    low, high = (edits.MaskExpert(layer=layer, expert=3) for layer in (0, 1))
    seconds = {
        (name, number): probe.estimate_what_if(TEXTS, [edit], placebos=number).seconds
        for name, edit in (("low", low), ("high", high))
        for number in (0, 1, 39)
    }
    once = seconds["low", 0] / 2  # without and with the edits
    assert seconds["low", 39] == pytest.approx((3 + 39) * once)
    assert seconds["high", 39] == pytest.approx((3 + 39 / 2) * once)  # the upper one of two layers
    assert seconds["high", 1] == pytest.approx((3 + 1 / 2) * once)
    ablated = probe.estimate_ablation(TEXTS, layers=[1], experts=[0, 2, 5], placebos=7)
    assert ablated.seconds == pytest.approx((1 + 3 * 8 / 2) * once)
    assert (ablated.tokens, ablated.disk_bytes) == (len(probe.plan(TEXTS).token_ids), 0)


def test_what_is_said_with_and_without_is_what_generate_says(probe, result):
    said = result.meta["generated"]
    assert said["base"] == [probe.generate(t["text"], 3) for t in TEXTS]
    everywhere = edits.ForceExperts(layer=1, expert=[6, 7])
    assert said["edited"][0] == probe.generate(TEXTS[0]["text"], 3, instruments=[everywhere])
    assert said["edited"][1] == said["base"][1]


def test_its_faces(result, tmp_path):
    assert "placebo" in repr(result)
    assert repr(result).startswith("What if in layer 1, where domain is code: every token goes to exactly experts 6, 7")
    again = WhatIf.load(result.save(tmp_path / "kept"))
    pd.testing.assert_frame_equal(mp.tables.what_if(again), mp.tables.what_if(result))
    assert len(pd.read_csv(result.to_csv(tmp_path / "what_if.csv"))) == len(mp.tables.what_if(result))
    assert len(result.figure().data) == 2
    tokens, following = mp.tables.what_if_tokens(result), mp.tables.what_if_next_tokens(result)
    assert len(tokens) == len(result.axis("token"))
    assert tokens["layers_rerouted"].max() == 1  # layer 1 is the last of two
    assert len(mp.figures.what_if_tokens(tokens, document=1).data) == 3  # with the range of the draws
    assert len(mp.figures.what_if_next_tokens(following).data) == 3
    assert len(mp.figures.what_if_experts(mp.tables.what_if(result), layer=0).data) == 3


@pytest.mark.parametrize("placebos", [-1, 1.5, True])
def test_draws_are_counted_in_whole_numbers(probe, placebos):
    with pytest.raises(InputError, match=f"placebos must be a number of draws, 0 for none, got {placebos}; give 0 or"):
        probe.what_if(TEXTS, [FORCED], placebos=placebos)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "needs at least one edit"),
        ([lambda value: value], "wrap a function in edits.Function"),
        ([edits.MaskExpert(layer=7, expert=1)], r"layer must be in 0–1 \(this model has 2\), got 7"),
        ([edits.MaskExpert(layer=0, expert=range(7))], "at least 2 experts must remain for every token"),
        ([edits.TopK(experts=1, document={"genre": "tale"})], r"a label of the documents \(domain\), got 'genre'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(probe, given, sentence):
    with pytest.raises(InputError, match=sentence):
        probe.what_if(TEXTS, given)


def test_edits_beyond_a_masked_choice_are_refused(probe):
    halves = [edits.MaskExpert(layer=0, expert=range(4)), edits.MaskExpert(layer=0, expert=range(4, 7))]
    with pytest.raises(InputError, match="got 1 after the edits"):
        probe.what_if(TEXTS, halves)
