"""Capture: what a trace says equals what transformers says, however documents are batched, cut or interrupted."""

import numpy as np
import pandas as pd
import pytest
import torch

from mixtral_probe import InputError, MixtralConfig, Probe, RoutingStats, Trace
from mixtral_probe.corpus import Corpus, Document
from mixtral_probe.instruments import Window
from mixtral_probe.run import RunOptions, RunStoppedError, Subject, attention_plan, plan
from mixtral_probe.run.plan import batches
from mixtral_probe.run.scoring import next_token_scores
from tests.support.models import SIZES, toy_model

TEXTS = ["def add(a, b):\n    return a + b", "Привет, мир!", "2 + 2 = 4", "a", "a truth universally acknowledged " * 4]


@pytest.fixture(scope="module")
def probe(tokenizer) -> Probe:
    return Probe(toy_model(vocab_size=8192, **SIZES), tokenizer, "toy")


def same_routing(a: Trace, b: Trace) -> None:
    """The same experts wherever the margin exceeds 1e-4, and close numbers everywhere."""
    np.testing.assert_allclose(a.router_logits, b.router_logits, atol=1e-5)
    ordered = -np.sort(-a.router_logits, axis=-1)
    clear = (ordered[..., 1] - ordered[..., 2] > 1e-4) & (ordered[..., 0] - ordered[..., 1] > 1e-4)
    assert clear.mean() > 0.9
    assert np.array_equal(a.expert_ids[clear], b.expert_ids[clear])
    np.testing.assert_allclose(a.tokens["nll"], b.tokens["nll"], atol=1e-4)


def test_a_trace_equals_transformers(probe, tmp_path):
    import transformers

    probe.model.save_pretrained(tmp_path / "model")
    theirs = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    trace = probe.trace(TEXTS, attention="1")
    for document in range(len(TEXTS)):
        rows = trace.rows(document)
        ids = torch.tensor(trace.tokens["token_id"].to_numpy()[rows], dtype=torch.int64)[None]
        with torch.no_grad():
            out = theirs(ids, output_router_logits=True, output_attentions=True)
        for layer, logits in enumerate(out.router_logits):
            np.testing.assert_allclose(trace.router_logits[layer, rows], logits, atol=1e-5)
        expected = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:], reduction="none")
        nll = trace.tokens["nll"].to_numpy()[rows]
        assert np.isnan(nll[0])
        np.testing.assert_allclose(nll[1:], expected, atol=1e-4)
        predicted = trace.tokens["predicted_id"].to_numpy()[rows].astype(int)
        assert np.array_equal(predicted, out.logits[0].argmax(-1))
        np.testing.assert_allclose(trace.attention(document, 1), out.attentions[1][0], atol=1e-3)


def test_batches_of_different_length_give_the_trace_of_one_by_one(probe):
    same_routing(probe.trace(TEXTS), probe.trace(TEXTS, positions_in_a_batch=1))


def test_what_the_config_returns_by_default_does_not_matter(probe):
    model, given = probe.model, ("output_attentions", "output_hidden_states", "output_router_logits")
    other = toy_model(**model.config.model_dump() | dict.fromkeys(given, True) | {"return_dict": False})
    other.load_state_dict(model.state_dict())
    same_routing(probe.trace(TEXTS[:2]), Probe(other, probe.tokenizer, "toy").trace(TEXTS[:2]))


def test_rows_are_the_tokens_of_the_documents_in_order(probe):
    trace = probe.trace([{"id": "x", "text": "one two", "domain": "d"}, {"id": "y", "text": "three", "domain": "e"}])
    assert trace.documents.to_dict("records") == [
        {"document": 0, "id": "x", "domain": "d"},
        {"document": 1, "id": "y", "domain": "e"},
    ]
    tokens = trace.tokens
    assert tokens["token_id"].iloc[0] == 1
    assert tokens["special"].tolist() == [tokens["position"].iloc[i] == 0 for i in range(len(tokens))]
    for number, text in enumerate(["one two", "three"]):
        own = tokens[(tokens["document"] == number) & ~tokens["special"]]
        assert "".join(text[s:e] for s, e in zip(own["start"], own["end"], strict=True)) == text
        assert "".join(own["piece"]) == text


def test_long_documents_are_cut_into_windows_that_start_again(probe, tokenizer):
    text = "word " * 100
    with pytest.warns(UserWarning, match=r"more than the model's 64 positions"):
        trace = probe.trace(text)
    tokens = trace.tokens
    assert tokens.groupby("chunk")["position"].max().tolist()[:-1] == [63] * (tokens["chunk"].max())
    first = tokens[tokens["position"] == 0]
    assert first["nll"].isna().all()
    ids = tokens["token_id"].to_numpy()
    assert np.array_equal(ids, tokenizer.encode(text).ids)
    with torch.inference_mode():
        out = probe.model(torch.tensor(ids[64:128], dtype=torch.int64)[None], output_router_logits=True)
    np.testing.assert_allclose(trace.router_logits[2, 64:128], out.router_logits[2], atol=1e-5)


def test_a_window_beyond_the_model_runs_with_a_warning(probe):
    with pytest.warns(UserWarning, match="windows of 102 tokens go beyond the model's 64 positions"):
        trace = probe.trace("word " * 100, window=200)
    assert trace.tokens["chunk"].max() == 0


def test_an_interrupted_capture_continues_where_it_stopped(probe, tmp_path):
    ran: list[int] = []

    def stop() -> bool:
        return len(ran) >= 2

    def note(progress) -> None:
        ran.append(progress.tokens)

    arguments = {"path": tmp_path / "t.trace", "positions_in_a_batch": 1, "attention": "all"}
    with pytest.raises(RunStoppedError):
        probe.trace(TEXTS, on_progress=note, should_stop=stop, **arguments)
    assert not (tmp_path / "t.trace").exists()
    again: list[int] = []
    trace = probe.trace(TEXTS, on_progress=lambda p: again.append(p.tokens), **arguments)
    assert len(again) == len(TEXTS) - 2
    assert again[-1] == len(trace)
    whole = probe.trace(TEXTS, positions_in_a_batch=1, attention="all")
    assert np.array_equal(trace.router_logits, whole.router_logits)
    assert np.array_equal(trace.expert_ids, whole.expert_ids)
    pd.testing.assert_frame_equal(trace.tokens, whole.tokens)
    assert np.array_equal(trace.attention(4, 2), whole.attention(4, 2))
    for name, sums in trace.attention_sums.items():
        assert np.array_equal(sums, whole.attention_sums[name])


def test_capture_writes_the_statistics_beside_the_trace(probe, tmp_path):
    documents = [{"id": str(i), "text": text, "domain": "ab"[i % 2]} for i, text in enumerate(TEXTS)]
    trace = probe.trace(documents, path=tmp_path / "t.trace")
    beside = RoutingStats.load(tmp_path / "t.trace" / "stats.safetensors")
    assert beside.groups == ("a", "b")
    counts = beside.sums.counts.sum((1, 2))  # [L, E]
    kept = ~trace.tokens["special"].to_numpy()
    expected = [np.bincount(trace.expert_ids[layer, kept].ravel(), minlength=8) for layer in range(3)]
    assert np.array_equal(counts, expected)


def test_scores_by_hand(probe):
    ids = torch.tensor([[1, 5, 7]])
    with torch.inference_mode():
        out = probe.model.model(ids)
        nll, predicted = next_token_scores(probe.model, out.last_hidden_state, ids, out.context)
        logits = probe.model.lm_head(out.last_hidden_state)[0]
    assert torch.isnan(nll[0, 0])
    assert nll[0, 2] == pytest.approx(-torch.log_softmax(logits[1], 0)[7].item(), abs=1e-5)
    assert predicted[0].tolist() == logits.argmax(-1).tolist()


def test_batches_hold_every_window_once_and_keep_to_the_limit():
    lengths = [3, 50, 7, 8, 1, 20, 64]
    windows = [Window(i, 0, sum(lengths[:i]), n) for i, n in enumerate(lengths)]
    made = list(batches(windows, 40))
    assert sorted(w.document for batch in made for w in batch) == list(range(7))
    assert all(len(batch) == 1 or max(w.length for w in batch) * len(batch) <= 40 for batch in made)


def test_attention_choices():
    config = MixtralConfig(num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, hidden_size=32)
    every = (0, 1, 2, 3)
    assert attention_plan(None, config) is None
    assert attention_plan("", config) is None
    assert attention_plan("0,3", config).layers == {0: every, 3: every}
    assert attention_plan("4-5", config).layers == {4: every, 5: every}
    assert attention_plan("all", config).layers == dict.fromkeys(range(6), every)
    assert attention_plan("3:1-2, 5:0", config).layers == {3: (1, 2), 5: (0,)}
    assert attention_plan([2], config).layers == {2: every}
    assert attention_plan({2: [0, 3]}, config).layers == {2: (0, 3)}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("6", r"layer must be in 0–5, got 6"),
        ("2:4", "head must be in 0–3, got 4"),
        ("x", "written as '0,3', '8-15' or 'all'"),
        ("5-2", "a range counts upward, got '5-2'; write '2-5'"),
    ],
)
def test_wrong_attention_choices(choice, message):
    config = MixtralConfig(num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, hidden_size=32)
    with pytest.raises(InputError, match=message):
        attention_plan(choice, config)


@pytest.mark.parametrize(("source", "message"), [([], "at least one document"), ("   ", "got an empty one")])
def test_nothing_to_run(probe, source, message):
    with pytest.raises(InputError, match=message):
        probe.trace(source)


def test_a_window_must_hold_a_token(probe):
    with pytest.raises(InputError, match="at least 1 token, got window=0"):
        plan(Subject(probe.model, probe.tokenizer), Corpus("", (Document("a", "text"),)), RunOptions(window=0))


def test_a_text_with_tokens_that_the_model_lacks_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"with ids in 0–49, got '.+' with the id \d+ in the document"):
        Probe(toy_model(), tokenizer).trace("once")


def test_the_estimate_counts_exactly_what_will_be_written(probe, tmp_path):
    guess = probe.estimate(TEXTS, attention="all")
    trace = probe.trace(TEXTS, attention="all", path=tmp_path / "t.trace")
    written = sum(file.stat().st_size for file in (tmp_path / "t.trace").iterdir())
    assert guess.tokens == len(trace)
    assert guess.documents == len(TEXTS)
    assert written <= guess.disk_bytes <= 2 * written
    weights = sum(p.numel() * 4 for p in probe.model.parameters())
    assert guess.memory_bytes > weights
    assert guess.seconds > 0


def test_the_meta_tells_where_a_trace_comes_from(probe):
    meta = probe.trace("some text").meta
    assert meta.model["name"] == "toy"
    assert meta.model["parameters"] == sum(p.numel() for p in probe.model.parameters())
    parts = meta.model["parameters_by_part"]
    assert parts["head"] == probe.model.lm_head.weight.numel()
    assert parts["experts"] == sum(p.numel() for n, p in probe.model.named_parameters() if ".experts." in n)
    assert meta.dtype == "float32"
    assert meta.instruments == [{"name": "Recorder"}]
    with torch.no_grad():
        probe.model.lm_head.weight[0, 0] += 1
    changed = probe.trace("some text").meta
    with torch.no_grad():
        probe.model.lm_head.weight[0, 0] -= 1
    assert changed.model["fingerprint"] != meta.model["fingerprint"]
