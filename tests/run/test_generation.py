"""A trace made while generating is the trace of one full pass over the same tokens."""

import numpy as np
import pandas as pd
import pytest
import torch

from mixtral_probe import InputError, Probe, RoutingStats, Trace
from mixtral_probe.corpus import Corpus
from mixtral_probe.instruments import Window
from mixtral_probe.model import Site
from mixtral_probe.run import Plan, RunOptions, RunStoppedError, Subject
from mixtral_probe.run.capture import record
from mixtral_probe.trace import TraceBuilder
from tests.support.instruments import Edit
from tests.support.models import SIZES, toy_model

TEXTS = ["def add(a, b):\n    return a + b", "Привет", "a", "a truth universally acknowledged"]
NEVER = {"eos_token_id": None}


@pytest.fixture(scope="module")
def probe(tokenizer) -> Probe:
    return Probe(toy_model(std=0.2, vocab_size=8192, **SIZES), tokenizer, "toy")


def full_pass(probe, trace, instruments=()):
    """The trace of one forward pass per document over the token ids of a trace."""
    plan = None if trace.attention_record is None else trace.attention_record.plan
    bare = trace.tokens.drop(columns=["nll", "predicted_id"])
    builder = TraceBuilder(trace.documents, bare, trace.meta, attention=plan)
    rows = [trace.rows(document) for document in range(trace.num_documents)]
    windows = tuple(Window(document, 0, own.start, own.stop - own.start) for document, own in enumerate(rows))
    planned = Plan(Corpus("", ()), trace.documents, bare, windows)
    one_by_one = RunOptions(positions_in_a_batch=1)
    record(builder, Subject(probe.model, probe.tokenizer), planned, one_by_one, instruments)
    return builder.finish()


def assert_same(trace, whole):
    """Logits to 1e-4, and the same experts wherever the margin to the next exceeds 1e-4."""
    np.testing.assert_allclose(trace.router_logits, whole.router_logits, atol=1e-4)
    ordered = -np.sort(-whole.router_logits, axis=-1)
    clear = (ordered[..., 1] - ordered[..., 2] > 1e-4) & (ordered[..., 0] - ordered[..., 1] > 1e-4)
    assert clear.mean() > 0.9
    assert np.array_equal(trace.expert_ids[clear], whole.expert_ids[clear])
    np.testing.assert_allclose(trace.expert_weights[clear], whole.expert_weights[clear], atol=1e-4)
    np.testing.assert_allclose(trace.tokens["nll"], whole.tokens["nll"], atol=1e-4)
    assert (trace.tokens["predicted_id"] == whole.tokens["predicted_id"]).mean() > 0.98
    for layer in trace.attention_layers:
        for document in range(trace.num_documents):
            ours, theirs = trace.attention(document, layer), whole.attention(document, layer)
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
    for name, sums in (trace.attention_sums or {}).items():
        np.testing.assert_allclose(sums, whole.attention_sums[name], atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "temperature": 1.5, "top_k": 50, "seed": 3},
        {"num_beams": 3},
        {"repetition_penalty": 1.3, "num_beams": 2, "do_sample": True},
    ],
    ids=str,
)
def test_the_trace_is_that_of_a_full_pass(probe, options):
    trace = probe.trace(TEXTS, generate=7, attention="0:1-2,2", **NEVER, **options)
    assert_same(trace, full_pass(probe, trace))


def test_what_was_fed_has_rows_and_the_last_token_has_none(probe):
    trace = probe.trace(TEXTS, generate=5, **NEVER)
    tokens = trace.tokens
    for document, text in enumerate(TEXTS):
        prompt = probe.tokenizer.encode(text).ids.tolist()
        expected = probe.model.generate(torch.tensor([prompt]), max_new_tokens=5, **NEVER)[0].tolist()
        own = tokens[tokens["document"] == document]
        assert own["token_id"].tolist() == expected[:-1]
        assert own["position"].tolist() == list(range(len(expected) - 1))
        assert own["phase"].tolist() == ["prefill"] * len(prompt) + ["decode"] * 4
        assert own["start"].isna().tolist() == [False] * len(prompt) + [True] * 4
        assert own["piece"].tolist() == probe.tokenizer.pieces(expected[:-1])
        assert own["predicted_id"].iloc[-1] == expected[-1]
        assert trace.documents["generated"][document] == probe.tokenizer.decode(expected)[len(text) :]
    assert len(trace) == len(tokens) == trace.router_logits.shape[1]
    assert trace.meta.corpus["generation"]["max_new_tokens"] == 5
    assert trace.meta.instruments[-1] == {"name": "GrowingRecorder"}


def test_a_document_that_ends_is_shorter(probe):
    prompt = probe.tokenizer.encode(TEXTS[0]).ids.tolist()
    third = int(probe.model.generate(torch.tensor([prompt]), max_new_tokens=5, **NEVER)[0, len(prompt) + 2])
    trace = probe.trace(TEXTS, generate=5, eos_token_id=third)
    assert (trace.tokens["document"] == 0).sum() <= len(prompt) + 2
    assert_same(trace, full_pass(probe, trace))


def test_one_new_token_adds_no_row(probe):
    trace, plain = probe.trace(TEXTS, generate=1, **NEVER), probe.trace(TEXTS)
    assert (trace.tokens["phase"] == "prefill").all()
    assert_same(trace, plain)
    assert trace.documents["generated"].str.len().gt(0).all()


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"do_sample": True, "num_beams": 2}], ids=str)
def test_batches_change_nothing(probe, options):
    together = probe.trace(TEXTS, generate=6, attention="1", **NEVER, **options)
    apart = probe.trace(TEXTS, generate=6, attention="1", positions_in_a_batch=1, **NEVER, **options)
    assert together.tokens["token_id"].tolist() == apart.tokens["token_id"].tolist()
    assert_same(together, apart)
    pd.testing.assert_frame_equal(together.documents, apart.documents)
    other = probe.trace(TEXTS, generate=6, seed=1, **NEVER, **options)
    assert (other.tokens["token_id"].tolist() != together.tokens["token_id"].tolist()) == bool(options)


def test_an_edit_holds_at_every_step(probe):
    banned = torch.zeros(8).index_fill(0, torch.tensor([4]), -torch.inf)
    ban = Edit(Site.ROUTER_LOGITS, lambda logits: logits + banned)
    trace = probe.trace(TEXTS[:2], generate=4, instruments=[ban], **NEVER)
    assert not (trace.expert_ids == 4).any()
    assert [entry["name"] for entry in trace.meta.instruments] == ["Edit", "GrowingRecorder"]
    whole = full_pass(probe, trace, [ban])
    assert np.array_equal(trace.expert_ids, whole.expert_ids)


def test_only_choices_and_only_summaries(probe):
    trace = probe.trace(TEXTS, generate=4, attention="0", attention_maps=False, router_logits=False, **NEVER)
    assert trace.router_logits is None
    maps = probe.trace(TEXTS, generate=4, attention="0", **NEVER)
    for name, sums in trace.attention_sums.items():
        np.testing.assert_array_equal(sums, maps.attention_sums[name])
    with pytest.raises(InputError, match="got sums alone"):
        trace.attention(0, 0)


def test_a_broken_off_run_continues_and_ends_as_one_trace(probe, tmp_path):
    ran = []
    arguments = {"generate": 4, "positions_in_a_batch": 1, "attention": "1", "do_sample": True, **NEVER}
    with pytest.raises(RunStoppedError):
        probe.trace(TEXTS, path=tmp_path / "t", on_progress=ran.append, should_stop=lambda: len(ran) >= 2, **arguments)
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parts"]
    with pytest.raises(InputError, match="got an unfinished run with another model, text or settings"):
        probe.trace(TEXTS, path=tmp_path / "t", **arguments | {"seed": 5})
    again = []
    trace = probe.trace(TEXTS, path=tmp_path / "t", on_progress=again.append, **arguments)
    assert len(again) == len(TEXTS) - 2
    assert (again[-1].tokens, again[-1].total_tokens, again[-1].documents) == (len(trace), len(trace), len(TEXTS))
    assert again[0].started_at == ran[-1].tokens
    assert [entry.name for entry in tmp_path.iterdir()] == ["t"]
    whole = probe.trace(TEXTS, **arguments)
    pd.testing.assert_frame_equal(trace.tokens, whole.tokens)
    pd.testing.assert_frame_equal(trace.documents, whole.documents)
    for name in ("router_logits", "expert_ids", "expert_weights"):
        assert np.array_equal(getattr(trace, name), getattr(whole, name))
    assert np.array_equal(trace.attention(2, 1), whole.attention(2, 1))
    assert RoutingStats.load(tmp_path / "t" / "stats.safetensors").sums.tokens.sum() > 0
    assert Trace.load(tmp_path / "t").documents["generated"].tolist() == whole.documents["generated"].tolist()


def test_a_run_can_be_stopped_between_two_tokens(probe):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(RunStoppedError):
        probe.trace("a", generate=50, should_stop=stop, **NEVER)
    assert len(asked) == 4


def test_long_texts_are_continued_beyond_the_model_with_a_warning(probe):
    with pytest.warns(UserWarning, match="65 of them, go beyond the model's 64 positions"):
        probe.trace("a", generate=64, **NEVER)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generate": 0}, "max_new_tokens must be a whole number of at least 1"),
        ({"generate": 3, "window": 8}, "is not cut, got window=8 and generate; leave one out"),
        ({"temperature": 2.0}, "temperature says how tokens are generated, so it needs generate=N"),
        ({"generate": 3, "temprature": 2.0}, "did you mean 'temperature'"),
    ],
)
def test_wrong_arguments(probe, arguments, message):
    with pytest.raises(InputError, match=message):
        probe.trace("a", **arguments)


def test_a_label_that_is_taken(probe):
    with pytest.raises(InputError, match="the label 'generated' is reserved for the new text"):
        probe.trace([{"id": "x", "text": "a", "generated": "b"}], generate=2)


def test_the_estimate_counts_new_tokens(probe):
    guess, plain = probe.estimate(TEXTS, generate=10), probe.estimate(TEXTS)
    assert guess.tokens == plain.tokens + 9 * len(TEXTS)
    assert guess.disk_bytes > plain.disk_bytes
    with pytest.raises(InputError, match="is not cut, got window=8 and generate; leave one out"):
        probe.estimate(TEXTS, generate=10, window=8)


def test_generate_tells_text_as_it_comes(probe):
    told = []
    text = probe.generate(TEXTS[1], 30, on_text=told.append, **NEVER)
    ids = torch.tensor([probe.tokenizer.encode(TEXTS[1]).ids.tolist()])
    whole = probe.tokenizer.decode(probe.model.generate(ids, max_new_tokens=30, **NEVER)[0].tolist())
    assert TEXTS[1] + text == whole
    assert "".join(told) == text
    assert len(told) > 10


def test_generate_stops_at_a_text(probe):
    free = probe.generate(TEXTS[1], 30, **NEVER)
    stop = free[4:6]
    made = probe.generate(TEXTS[1], 30, stop_strings=[stop], **NEVER)
    assert stop in made
    assert free.startswith(made)
    assert len(made) < len(free)


def test_drawn_text_is_seeded(probe):
    how = {"do_sample": True, "temperature": 2.0, **NEVER}
    assert probe.generate("a", 8, seed=1, **how) == probe.generate("a", 8, seed=1, **how)
    assert probe.generate("a", 8, seed=1, **how) != probe.generate("a", 8, seed=2, **how)


def test_control_tokens_are_not_added_twice(probe):
    trace = probe.trace("<s>a", generate=2, add_special_tokens=False, **NEVER)
    assert trace.tokens["token_id"].tolist()[:2] == probe.tokenizer.encode("a").ids.tolist()
    plain = probe.trace("<s>a", add_special_tokens=False)
    assert plain.tokens["special"].tolist()[0]
    assert plain.tokens["token_id"].tolist() == probe.tokenizer.encode("a").ids.tolist()
    with pytest.raises(InputError, match="generation continues at least one token, got a text of none"):
        probe.generate("", add_special_tokens=False)
