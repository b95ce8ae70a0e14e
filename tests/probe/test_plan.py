"""`Probe.plan`: text is tokenised once, and every method takes the plan in place of the text."""

import numpy as np
import pytest

import mixtral_probe as mp
from mixtral_probe import InputError, Probe, Tokenizer
from mixtral_probe.resources import data_path
from tests.support.models import toy_model

TEXTS = ["one two three four five", "a", "six seven"]


@pytest.fixture(scope="module")
def probe():
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 64}
    return Probe(toy_model(vocab_size=8192, **sizes), Tokenizer.from_folder(data_path("mixtral-mini")), "toy")


def test_text_is_tokenised_once_for_estimate_and_trace(probe, monkeypatch):
    calls, encode = [], Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda *args, **kwargs: calls.append(1) or encode(*args, **kwargs))
    planned = probe.plan(TEXTS)
    estimate, trace = probe.estimate(planned), probe.trace(planned)
    result = probe.saliency(planned)
    assert len(calls) == len(TEXTS)
    assert estimate.tokens == len(trace)
    assert result.meta["corpus"] == trace.meta.corpus
    assert probe.estimate(probe.plan(TEXTS, cut=False), generate=3).tokens == len(trace) + 2 * len(TEXTS)


def test_a_plan_is_cut_already(probe):
    planned = probe.plan(TEXTS, window=2)
    with pytest.raises(InputError, match=r"a plan is cut already, got window=3 too; give window to Probe\.plan"):
        probe.trace(planned, window=3)
    with pytest.raises(InputError, match="a text to be continued is not cut, got a plan with windows"):
        probe.trace(planned, generate=2)


def test_a_plan_gives_the_results_of_its_text(probe):
    planned, edit = probe.plan(TEXTS, window=4), mp.edits.MaskExpert(layer=0, expert=1)
    for run in (
        lambda source, **window: probe.trace(source, **window).router_logits,
        lambda source, **window: probe.saliency(source, **window).norms,
        lambda source, **window: probe.similarity(source, tokens=5, **window).output_cosine,
        lambda source, **window: probe.expert_subsets(source, sizes=[2], tokens=5, **window).error,
        lambda source, **window: probe.ablation(source, layers=[1], experts=[0], **window).ablated,
        lambda source, **window: probe.logit_lens(source, **window).entropy_bits,
        lambda source, **window: probe.what_if(source, [edit], **window).nll,
        lambda source, **window: probe.time(source, repeats=1, memory=False, **window).expert_rows,
        lambda source, **window: np.array(probe.mean_expert(source, layer=0, expert=1, **window).mean),
    ):
        np.testing.assert_array_equal(run(planned), run(TEXTS, window=4))
