"""A run whose routing is not finite says where and what helps, or goes on and counts such tokens apart."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mixtral_probe import InputError, Instrument, Probe, RoutingStats, edits
from mixtral_probe.model import Site
from mixtral_probe.run import RunOptions
from mixtral_probe.run.capture import record_batch
from mixtral_probe.run.passes import model_batches
from mixtral_probe.trace import TraceBuilder, TraceMeta
from tests.support.cli import refused, run, toy_folder
from tests.support.models import SIZES, toy_model

TEXTS = [{"id": "one", "text": "some text"}, {"id": "two", "text": "a longer text of other words, and more"}]


def broken(tokenizer, token_id, value=float("nan"), dtype=torch.float32):
    """A model whose embedding of one token is not finite."""
    model = toy_model(vocab_size=8192, **SIZES).to(dtype)
    with torch.no_grad():
        model.model.embed_tokens.weight[token_id] = value
    return Probe(model, tokenizer, "broken")


@pytest.fixture
def last_word(tokenizer):
    return int(tokenizer.encode(TEXTS[1]["text"]).ids[-1])


@pytest.fixture
def probe(tokenizer, last_word):
    """Attention spreads what is not finite over the whole second text."""
    return broken(tokenizer, last_word)


SENTENCE = (
    r"routing must be finite, got router logits or weights in layer 0 that are NaN or infinite, first for the token "
    r"'.*' at position 0 of the document 'two', computed in float32; check the weights and the edits, or leave such "
    r"tokens without a choice with nonfinite='skip' \(--nonfinite skip\)"
)


@pytest.mark.parametrize("options", [{}, {"router_logits": False}, {"positions_in_a_batch": 1}, {"generate": 3}])
def test_a_capture_is_refused_with_layer_and_token(probe, options):
    with pytest.raises(InputError, match=SENTENCE):
        probe.trace(TEXTS, **options)


@pytest.mark.parametrize("options", [{}, {"router_logits": False}])
def test_such_tokens_have_no_choice_and_count_nowhere_when_skipped(probe, options, tmp_path):
    with pytest.warns(UserWarning, match=r"\d+ of \d+ choices, from layer 0 on, were not finite; they count nowhere"):
        trace = probe.trace(TEXTS, nonfinite="skip", path=tmp_path / "a.trace", **options)
    one, two = trace.rows(0), trace.rows(1)
    assert (trace.expert_ids[:, two] == -1).all()
    assert not trace.expert_weights[:, two].any()
    assert trace.meta.nonfinite == (two.stop - two.start,) * 3
    stats, expected = RoutingStats.load(trace.path / "stats.safetensors"), probe.trace(TEXTS[:1], **options)
    np.testing.assert_array_equal(trace.expert_ids[:, one], expected.expert_ids)
    np.testing.assert_array_equal(stats.total().load, RoutingStats.from_trace(expected).total().load)


@pytest.mark.parametrize("generate", [None, 3])
def test_only_the_token_and_layer_that_broke_has_no_choice(tokenizer, generate):
    probe = Probe(toy_model(vocab_size=8192, **SIZES), tokenizer)
    with pytest.warns(UserWarning, match="1 of .* choices, from layer 2 on, were not finite"):
        trace = probe.trace(TEXTS[1:], nonfinite="skip", instruments=[_Logits(float("nan"), 2)], generate=generate)
    assert np.argwhere((trace.expert_ids < 0).any(-1)).tolist() == [[2, 2]]
    assert trace.meta.nonfinite == (0, 0, 1)


def test_what_was_done_before_the_refusal_is_kept_and_continued(probe, tmp_path):
    path, progress = tmp_path / "a.trace", []
    with pytest.raises(InputError, match="routing must be finite"):
        probe.trace(TEXTS, path=path, positions_in_a_batch=1)
    with pytest.warns(UserWarning, match="were not finite"):
        probe.trace(TEXTS, path=path, positions_in_a_batch=1, nonfinite="skip", on_progress=progress.append)
    assert len(progress) == 1


def test_overflow_of_float16_names_the_types_that_help(tokenizer):
    probe = Probe(toy_model(vocab_size=8192, **SIZES).to(torch.float16), tokenizer)
    with torch.no_grad():
        probe.model.model.layers[1].input_layernorm.weight.fill_(6e4)
    with pytest.raises(
        InputError, match=r"in layer 1 .* in float16; run in bfloat16 or float32, whose range is larger"
    ):
        probe.trace(TEXTS)


@dataclass(frozen=True)
class _Logits(Instrument):
    """Puts a value in the place of the logits of one expert, as a hook or an overflow may."""

    value: float
    layer: int = 1

    def wants(self, site, layer):
        return site is Site.ROUTER_LOGITS and layer == self.layer

    def visit(self, site, layer, value, context):
        value = value.clone()
        if context.phase == "prefill":
            value[2, 5] = self.value
        return value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_instrument_that_breaks_the_logits_is_refused(tokenizer, value):
    probe = Probe(toy_model(vocab_size=8192, **SIZES), tokenizer)
    with pytest.raises(InputError, match=r"in layer 1 .* at position 2 of the document"):
        probe.trace(TEXTS[1:], instruments=[_Logits(value)])


def test_a_mask_is_no_overflow(tokenizer):
    probe = Probe(toy_model(vocab_size=8192, **SIZES), tokenizer)
    trace = probe.trace(TEXTS, instruments=[edits.MaskExpert(expert=3, layer=1)])
    assert np.isneginf(trace.router_logits[1, :, 3]).all()
    assert trace.meta.nonfinite is None


class _Probabilities(Instrument):
    """Gives probabilities where logits are meant."""

    sites = (Site.ROUTER_LOGITS,)

    def visit(self, site, layer, value, context):
        return value.softmax(-1)


def test_an_instrument_that_gives_probabilities_is_refused(tokenizer):
    probe = Probe(toy_model(vocab_size=8192, **SIZES), tokenizer)
    with pytest.raises(InputError, match="must come from before the softmax"):
        probe.trace(
            "a text of more than a few words, so that chance is no reason " * 2,
            instruments=[_Probabilities()],
            window=60,
        )


EXPERIMENTS = {
    "what_if": lambda probe: probe.what_if(TEXTS, [edits.MaskExpert(expert=1)], placebos=0),
    "ablation": lambda probe: probe.ablation(TEXTS, layers=[1], experts=[0], placebos=0),
    "saliency": lambda probe: probe.saliency(TEXTS),
    "similarity": lambda probe: probe.similarity(TEXTS),
    "logit lens": lambda probe: probe.logit_lens(TEXTS),
    "mean expert": lambda probe: probe.mean_expert(TEXTS, layer=0, expert=0),
    "time": lambda probe: probe.time(TEXTS, repeats=1, warmup=1),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_an_experiment_is_refused_with_layer_and_place(probe, experiment):
    with pytest.raises(
        InputError, match=r"in layer 0 that are NaN or infinite, first for position \d+ of window 0 of doc"
    ):
        experiment(probe)


def test_an_edit_that_breaks_an_experiment_is_refused(tokenizer):
    probe = Probe(toy_model(vocab_size=8192, **SIZES), tokenizer)
    with pytest.raises(InputError, match=r"routing must be finite, .* in layer 1 "):
        probe.what_if(
            TEXTS, [edits.MeanExpert(layer=0, expert=expert, mean=(1e39,) * 24) for expert in range(8)], placebos=0
        )


def test_flags_are_read_only_when_the_recorder_finishes(probe):
    """On an accelerator nothing waits: flags come over with the values of the call, and are looked at after them."""
    planned = probe.plan(TEXTS)
    meta = TraceMeta(num_layers=3, num_experts=8, num_experts_per_tok=2)
    (batch,) = model_batches(planned, torch.device("cpu"), RunOptions())
    with torch.inference_mode():
        queued = record_batch(probe.model, TraceBuilder(planned.documents, planned.tokens, meta), batch, ())
        with pytest.raises(InputError, match="routing must be finite"):
            queued.finish()


@pytest.mark.filterwarnings("default")
def test_the_command_line(tmp_path, tokenizer, last_word):
    model = toy_folder(tmp_path / "model")
    probe = Probe.from_pretrained(model)
    with torch.no_grad():
        probe.model.model.embed_tokens.weight[last_word] = float("nan")
    probe.model.save_pretrained(model)
    arguments = ["capture", "--model", model, "--text", TEXTS[1]["text"], "--out", tmp_path / "a.trace"]
    assert "routing must be finite" in refused(*arguments)
    result = run(*arguments, "--nonfinite", "skip")
    assert result.exit_code == 0
    assert "were not finite; they count nowhere" in result.stderr
    assert '"nonfinite": 30' in run("info", tmp_path / "a.trace", "--json").stdout
