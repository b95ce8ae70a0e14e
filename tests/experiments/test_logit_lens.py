"""The logit lens against transformers' hidden states with the same weights, and a window of a trace run again."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy

from mixtral_probe import InputError, Probe, figures, tables
from mixtral_probe.trace import Result
from tests.support.models import ours_like, reference_model
from tests.support.routing import estimate, pick

TEXTS = ["def add(a, b):\n    return a + b", "2 + 2 = 4", "a truth universally acknowledged " * 5]
SIZES = {"vocab_size": 8192, "num_hidden_layers": 3, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def theirs():
    return reference_model(**SIZES)


@pytest.fixture(scope="module")
def probe(theirs, tokenizer):
    return Probe(ours_like(theirs), tokenizer, "toy")


@pytest.fixture(scope="module")
def lens(probe):
    return probe.logit_lens(TEXTS)


@pytest.fixture(scope="module")
def by_hand(theirs, probe):
    """[L, T, V] float32 logits of every layer: transformers' norm and head on transformers' hidden states."""
    found = []
    for text in TEXTS:
        ids = torch.tensor(probe.tokenizer.encode(text).ids.astype(np.int64))[None]
        with torch.no_grad():
            out = theirs(ids, output_hidden_states=True)
            layers = [theirs.lm_head(theirs.model.norm(hidden)) for hidden in out.hidden_states[1:-1]]
        found.append(torch.stack([*layers, out.logits])[:, 0].numpy())
    return np.concatenate(found, axis=1)


def test_every_layer_is_the_norm_and_the_head_on_its_residual(lens, by_hand):
    p = np.exp(log_softmax(by_hand.astype(np.float64), -1))
    np.testing.assert_allclose(lens["entropy_bits"], entropy(p, base=2, axis=-1), rtol=1e-5)
    divergence = entropy(np.broadcast_to(p[-1], p.shape), p, base=2, axis=-1)
    np.testing.assert_allclose(lens["divergence_bits"], divergence, atol=1e-5)
    best = by_hand.argmax(-1)
    np.testing.assert_array_equal(lens["predicted_id"][..., 0], best)
    np.testing.assert_array_equal(lens["agrees"], best == best[-1])
    ranked = np.sort(p, axis=-1)[..., ::-1][..., :5]
    np.testing.assert_allclose(lens["probability"], ranked, rtol=1e-5)


def test_the_last_layer_is_the_model_itself(probe, lens):
    trace = probe.trace(TEXTS)
    np.testing.assert_array_equal(lens["predicted_id"][-1, :, 0], trace.tokens["predicted_id"].to_numpy(int))
    assert (lens["divergence_bits"][-1] == 0).all()
    assert lens["agrees"][-1].all()
    # The surprise at the token after this one is the loss of that token.
    nll = trace.tokens["nll"].to_numpy()[1:]
    coming = lens["next_token_bits"][-1][:-1]
    starts = trace.tokens["position"].to_numpy()[1:] == 0
    np.testing.assert_allclose(coming[~starts] * np.log(2), nll[~starts], rtol=1e-4)
    assert np.isnan(coming[starts]).all()


@pytest.mark.usefixtures("two_documents_are_enough")
def test_the_table_is_the_mean_over_tokens_that_are_not_special(lens):
    table = tables.logit_lens(lens)
    counted = ~lens["special"]
    row = pick(table, layer=1, metric="lens_entropy_bits").iloc[0]
    assert row["value"] == pytest.approx(lens["entropy_bits"][1, counted].mean(), rel=1e-6)
    assert row["n"] == counted.sum()
    assert row["low"] < row["value"] < row["high"]
    last = pick(table, layer=2)
    np.testing.assert_array_equal(last["value"], last["null"])
    assert pick(table, layer=0, metric="lens_agreement")["value"].item() == pytest.approx(
        lens["agrees"][0, counted].mean()
    )
    figure = figures.logit_lens(table)
    drawn = np.concatenate([trace.y for trace in figure.data if trace.name == "all"])
    assert set(np.round(estimate(pick(table, metric="lens_entropy_bits")), 12)) <= set(np.round(drawn, 12))


def test_one_document_has_no_interval(probe):
    table = tables.logit_lens(probe.logit_lens(TEXTS[0]))
    assert table["low"].isna().all()
    assert table["scope"].str.contains("no interval").all()


def test_the_table_by_token_names_the_predictions(probe, lens):
    table = tables.logit_lens_tokens(lens)
    assert len(table) == lens["probability"].size
    row = pick(table, document=1, position=2, layer=1, rank=3).iloc[0]
    token = np.flatnonzero((lens["document"] == 1) & (lens["position"] == 2))[0]
    assert row["value"] == pytest.approx(lens["probability"][1, token, 3])
    assert row["predicted"] == probe.tokenizer.pieces([lens["predicted_id"][1, token, 3]])[0]
    figure = figures.logit_lens_tokens(table, document=1)
    np.testing.assert_allclose(figure.data[0].z[1, 2], lens["probability"][1, token, 0])
    assert len(figure.to_json(engine="json")) < 200_000
    with pytest.raises(InputError, match="got those from 900 of window 0 of document 1"):
        figures.logit_lens_tokens(table, document=1, start=900)


def test_windows_are_read_apart(probe, lens):
    cut = probe.logit_lens(TEXTS[2], window=10)
    first = np.flatnonzero(lens["document"] == 2)[:10]
    np.testing.assert_allclose(cut["entropy_bits"][:, :10], lens["entropy_bits"][:, first], rtol=1e-5)
    assert np.isnan(cut["next_token_bits"][:, 9]).all()


def test_a_lens_needs_a_sensible_top_and_its_tables_a_lens(probe):
    with pytest.raises(InputError, match="top must lie in 1–8192, the vocabulary, got 0"):
        probe.logit_lens("a", top=0)
    other = Result("other", {"a": np.zeros(1)}, {"a": ("x",)})
    with pytest.raises(InputError, match="made of a result of the kind 'logit_lens', got one of 'other'"):
        tables.logit_lens(other)


def test_a_window_run_again_has_the_attention_of_a_capture(probe):
    recorded = probe.trace(TEXTS, attention="all", window=12)
    bare = probe.trace(TEXTS, window=12)
    again = probe.retrace(bare, document=2, chunk=1, attention="1")
    assert again.attention_layers == (1,)
    np.testing.assert_allclose(again.attention(0, 1), recorded.attention(2, 1, chunk=1), atol=1e-3)
    own = bare.tokens[(bare.tokens["document"] == 2) & (bare.tokens["chunk"] == 1)]
    assert again.tokens["token_id"].tolist() == own["token_id"].tolist()
    np.testing.assert_allclose(again.tokens["nll"], own["nll"], atol=1e-4)
    assert again.documents["id"].tolist() == bare.documents["id"].tolist()[2:]
    lens = probe.logit_lens_again(bare, document=2, chunk=1)
    assert lens["predicted_id"].shape == (3, len(own), 5)


def test_a_trace_of_another_model_or_without_ids_is_refused(probe):
    trace = probe.trace("a b c")
    other = Probe(ours_like(reference_model(1, **SIZES)), probe.tokenizer, "other")
    with pytest.raises(InputError, match=r"run again by its own model, got a trace of other weights \(toy\)"):
        other.retrace(trace)
    with pytest.raises(InputError, match="a window must exist, got window 3 of document 0"):
        probe.retrace(trace, chunk=3)
    blind = dataclasses.replace(trace, tokens=trace.tokens.assign(token_id=np.int32(-1)))
    with pytest.raises(InputError, match="from its token ids, got one where some are missing"):
        probe.logit_lens_again(blind)
