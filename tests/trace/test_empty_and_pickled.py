"""Traces without tokens or without any choice, and what worker processes send to each other."""

import importlib
import pickle
import pkgutil

import numpy as np
import pytest

import mixtral_probe
from mixtral_probe import InputError, RoutingStats, tables
from mixtral_probe.notebook import html
from mixtral_probe.selection import SelectionError, parse
from mixtral_probe.selection.errors import Place
from mixtral_probe.trace import Trace
from tests.support.attention_traces import attentive_trace

NONE = Trace.from_arrays(expert_ids=np.zeros((2, 0, 2), int), num_experts=4, router_logits=np.zeros((2, 0, 4)))
UNCHOSEN = Trace.from_arrays(expert_ids=np.full((2, 5, 2), -1), num_experts=4)


@pytest.mark.parametrize("trace", [NONE, UNCHOSEN], ids=["no tokens", "no choices"])
def test_a_trace_of_nothing_is_saved_shown_and_counted(trace, tmp_path):
    loaded = Trace.load(trace.save(tmp_path / "a.trace"))
    assert len(loaded) == len(trace)
    assert loaded.expert_ids.shape == trace.expert_ids.shape
    assert "<" in html(loaded)
    stats = RoutingStats.from_trace(loaded)
    stats.save(tmp_path / "a.safetensors")
    again = RoutingStats.load(tmp_path / "a.safetensors")
    assert again.sums.tokens.sum() == 0
    assert "RoutingStats of 0 tokens" in repr(again)
    assert "<" in html(again)


@pytest.mark.parametrize("trace", [NONE, UNCHOSEN], ids=["no tokens", "no choices"])
@pytest.mark.parametrize("name", [name for name, spec in tables.TABLES.items() if spec.source in ("stats", "trace")])
def test_tables_of_nothing_are_tables_or_a_sentence(trace, name):
    spec = tables.TABLES[name]
    try:
        table = spec.function(RoutingStats.from_trace(trace) if spec.source == "stats" else trace)
    except InputError:
        return
    assert list(table.columns)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_trace_with_attention_is_pickled(tmp_path, on_disk):
    trace = attentive_trace()
    trace = Trace.load(trace.save(tmp_path / "a.trace")) if on_disk else trace
    copy = pickle.loads(pickle.dumps(trace))
    layer = trace.attention_layers[0]
    np.testing.assert_array_equal(copy.attention(0, layer), trace.attention(0, layer))
    np.testing.assert_array_equal(copy.expert_ids, trace.expert_ids)
    assert copy.meta == trace.meta


def test_an_error_of_a_selection_is_pickled_with_its_place():
    with pytest.raises(SelectionError) as caught:
        parse("layer = 3")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.sentence, copy.place) == (str(caught.value), caught.value.sentence, Place(6, 7))


def own_exceptions():
    """Every exception class of the package."""
    for module in pkgutil.walk_packages(mixtral_probe.__path__, "mixtral_probe."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name:
                    yield value


def test_every_exception_is_pickled():
    found = {kind.__name__: kind for kind in own_exceptions()}
    assert {"InputError", "SelectionError", "RunStoppedError", "NeedsError"} <= found.keys()
    for kind in found.values():
        error = kind("s", "text", Place(0, 1)) if kind is SelectionError else kind("a sentence")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (kind, str(error))
