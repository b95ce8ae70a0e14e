"""Vocabularies of different sizes: what the model alone has is shown, what the tokenizer alone has is refused."""

import pytest
import torch

from mixtral_probe import InputError, Probe, Trace, edits, tables
from mixtral_probe.strip.routed import text_of
from mixtral_probe.tokenizer import Tokenizer
from tests.support.models import SIZES, toy_model

PADDED = 8256  # a multiple of 64 above the 8192 tokens


def favouring(token_id: int, vocabulary: int, tokenizer: Tokenizer) -> Probe:
    """A probe whose model says one token before all others."""
    model = toy_model(std=0.2, vocab_size=vocabulary, **SIZES, eos_token_id=None)
    with torch.no_grad():
        model.model.norm.weight[:] = 0
        model.model.norm.weight[0] = 1
        model.model.embed_tokens.weight[:, 0] = 5  # the residual stream keeps this sign
        model.lm_head.weight[:, 0] = 0
        model.lm_head.weight[token_id, 0] = 1
    return Probe(model, tokenizer, "toy")


@pytest.fixture(scope="module")
def probe(tokenizer):
    return favouring(8243, PADDED, tokenizer)


def test_generated_text(probe):
    assert probe.generate("once", 3) == "⟨id 8243⟩" * 3
    parts = []
    probe.generate("once", 3, on_text=parts.append)
    assert "".join(parts) == "⟨id 8243⟩" * 3


def test_stop_strings(probe):
    assert probe.generate("once", 4, stop_strings=["8243⟩⟨id"]) == "⟨id 8243⟩" * 2
    assert probe.generate("once", 3, stop_strings=["absent"]) == "⟨id 8243⟩" * 3


def test_a_trace_of_a_generation(probe, tmp_path):
    probe.trace("once", generate=3, path=tmp_path / "t")
    trace = Trace.load(tmp_path / "t")
    assert trace.documents["generated"].tolist() == ["⟨id 8243⟩" * 3]
    decoded = trace.tokens[trace.tokens["phase"] == "decode"]
    assert decoded["piece"].tolist() == ["⟨id 8243⟩"] * 2
    assert (trace.tokens["predicted_id"] == 8243).all()
    assert {text_of(token) for token in decoded.itertuples()} == {"⟨id 8243⟩"}
    rows = tables.expert_choices(trace, layer=0, expert=int(trace.expert_ids[0, -1, 0]))
    assert "⟨id 8243⟩" in "".join(rows["token"])
    again = probe.retrace(trace)
    assert again.tokens["token_id"].tolist() == trace.tokens["token_id"].tolist()


def test_what_if(probe):
    result = probe.what_if("once", [edits.ZeroExpert(layer=0, expert=1)], placebos=1, generate=2)
    assert "⟨id 8243⟩" in result.meta["candidates"][0]
    assert all(texts == ["⟨id 8243⟩" * 2] for texts in result.meta["generated"].values())


def test_logit_lens(probe):
    table = tables.logit_lens_tokens(probe.logit_lens("once", top=1))
    assert set(table["predicted"]) == {"⟨id 8243⟩"}


def test_saliency(probe):
    tables.promoted_tokens(probe.saliency("once upon a time"))


def test_ids_of_users_are_still_checked(probe):
    with pytest.raises(InputError, match=r"token ids must be in 0–8191, got 8243"):
        probe.tokenizer.decode([8243])
    with pytest.raises(InputError, match=r"token ids must be in 0–8191, got 8243"):
        probe.tokenizer.pieces([8243])


@pytest.mark.parametrize("missing", [1, 4])
def test_a_tokenizer_with_more_tokens_than_the_model(tokenizer, missing):
    probe = favouring(5, 8192 - missing, tokenizer)
    last = tokenizer.decode([8191])
    assert tokenizer.encode(last).ids[-1] == 8191
    assert len(probe.trace("once")) > 1
    assert probe.generate("once", 1)
    probe.saliency("once")
    sentence = rf"with ids in 0–{8191 - missing}, got .* with the id 8191 in the document '.*'; remove it from the text"
    for run in (probe.trace, probe.logit_lens, probe.saliency, probe.plan, lambda text: probe.trace(text, generate=2)):
        with pytest.raises(InputError, match=sentence):
            run(last)
    with pytest.raises(InputError, match="with the id 8191 in the text; remove it"):
        probe.generate(last)
