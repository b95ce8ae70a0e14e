"""An object of another kind than a function takes is one sentence: what it takes, what came, what to do."""

import numpy as np
import pytest

import mixtral_probe as mp
from mixtral_probe.tables.registry import EXPERIMENTS, TABLES
from tests.support.models import reference_model


@pytest.fixture(scope="module")
def trace(small_probe):
    return small_probe.trace(["a few words", "and more of them"])


@pytest.mark.parametrize(
    ("given", "words"),
    [(2, r"got 2; give \[2\]"), (0.5, r"got 0.5; give \[0, 3\]"), (True, "got True; give"), (np.int64(3), "got")],
)
def test_attention(small_probe, given, words):
    with pytest.raises(mp.InputError, match=f"attention must be a list of layers, .*{words}"):
        small_probe.trace("a b", attention=given)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_of_a_run(name, trace):
    spec = TABLES[name]
    for given, words in (
        ("a.trace", "got 'a.trace'; open it first"), ([trace, trace], "got 2 of them; call it for each"),
        (None, "got a NoneType"), (np.zeros((3, 2)), "got a ndarray of 3"),
    ):  # fmt: skip
        with pytest.raises(mp.InputError, match=f"{name} is made from a trace.*{words}"):
            spec.function(given)
    if spec.source == "trace":
        with pytest.raises(mp.InputError, match="got statistics; give the trace"):
            spec.function(mp.RoutingStats.from_trace(trace))


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_tables_of_an_experiment(name, trace):
    with pytest.raises(mp.InputError, match=f"{name} is made from the result of an experiment, got a Trace"):
        EXPERIMENTS[name].function(trace)


def test_a_table_of_statistics_takes_a_trace(trace):
    expected = mp.tables.balance(mp.RoutingStats.from_trace(trace))
    assert mp.tables.balance(trace).equals(expected)


def test_figures(trace):
    with pytest.raises(mp.InputError, match=r"figures.expert_load draws a table, got a Trace; give one of"):
        mp.figures.expert_load(trace)


def test_statistics(trace):
    with pytest.raises(mp.InputError, match=r"of one trace, got a list; .* merge several"):
        mp.RoutingStats.from_trace([trace, trace])
    with pytest.raises(mp.InputError, match=r"got a str; open a folder with Trace.load"):
        mp.RoutingStats.from_trace("a.trace")


def test_models_and_tokenizers_of_other_libraries(small_probe):
    with pytest.raises(mp.InputError, match=r"got a MixtralForCausalLM of transformers; save it"):
        mp.Probe(reference_model(), small_probe.tokenizer)
    with pytest.raises(mp.InputError, match=r"needs a Tokenizer of mixtral_probe, got a list of builtins"):
        mp.Probe(small_probe.model, ["a"])
    with pytest.raises(mp.InputError, match=r"got 'models/mine'; give it to Probe.from_pretrained"):
        mp.Probe("models/mine")
    with pytest.raises(mp.InputError, match=r"got none; Probe.from_pretrained reads"):
        mp.Probe(small_probe.model)


def test_edits(small_probe):
    with pytest.raises(mp.InputError, match=r"Temperature has the fields layer, .*, got 'expret'; correct it"):
        mp.edits.Temperature(factor=2.0, expret=1)
    edit = mp.edits.MaskExpert(layer=0, expert=1)
    one, listed = (small_probe.what_if("a b c", given, placebos=0) for given in (edit, [edit]))
    assert one.nll.tolist()[1][1:] == listed.nll.tolist()[1][1:]


def test_texts_and_reports(small_probe, trace, tmp_path):
    with pytest.raises(mp.InputError, match=r"text must be a string, .* got 5"):
        small_probe.trace(5)
    with pytest.raises(mp.InputError, match="a report is of traces or their folders, got RoutingStats; give the trace"):
        mp.write_report(mp.RoutingStats.from_trace(trace), tmp_path / "report")
    assert mp.write_report(trace, tmp_path / "one", tables=["balance"])


def test_a_probe_says_what_it_is(small_probe):
    assert repr(small_probe) == "Probe of toy: 2 layers × 8 experts, 2 per token, float32 on cpu"
