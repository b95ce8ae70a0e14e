"""The page Serving shows the numbers of the tables."""

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.stats import routing_stats
from tests.support.app_traces import bare_trace, card_values, clean, opened, routed_trace
from tests.support.routing import pick

OF_LAYERS = ["placement_simulation", "cache_simulation", "capacity_simulation", "skipping_simulation"]


def page(monkeypatch, path, section):
    return clean(opened(monkeypatch, path, page="serving", query={"serving": section, "layer": "1"}))


def tabled(test, key):
    clean(test.toggle(key=f"{key}_table").set_value(True).run())
    return test.dataframe[0].value["value"].to_numpy(float)


@pytest.mark.parametrize("section", OF_LAYERS)
def test_devices_caches_and_capacities_show_the_table(monkeypatch, tmp_path, section):
    trace = routed_trace()
    path = trace.save(tmp_path / "a.trace")
    test = page(monkeypatch, path, section)
    if section == "placement_simulation":
        table = tables.placement_simulation(routing_stats(trace))
    else:
        table = getattr(tables, section)(trace, by="domain")
    together, own = pick(table, group="all", layer=None), pick(table, group="all", layer=1)
    np.testing.assert_allclose(tabled(test, section), together["value"].to_numpy(float), rtol=1e-12)
    test.toggle(key=f"{section}_table").set_value(False)
    np.testing.assert_allclose(tabled(test, f"{section}_layer"), own["value"].to_numpy(float), rtol=1e-12)


def test_the_weights_of_last_choices_are_those_of_the_table(monkeypatch, tmp_path):
    trace = routed_trace()
    test = page(monkeypatch, trace.save(tmp_path / "a.trace"), "skipping_simulation")
    own = pick(tables.skipping_simulation(trace), group="all", metric="weight_ratio")
    np.testing.assert_array_equal(tabled(test, "weight_ratio"), own[own["layer"].notna()]["value"].to_numpy(float))


def test_paths_are_counted(monkeypatch, tmp_path):
    trace = routed_trace()
    test = page(monkeypatch, trace.save(tmp_path / "a.trace"), "paths")
    ways, counts = np.unique(np.asarray(trace.expert_ids)[:, :, 0].T, axis=0, return_counts=True)
    assert int(card_values(test)["different paths"]) == len(ways)
    largest = np.sort(counts / counts.sum())[::-1]
    found = tabled(test, "paths")
    np.testing.assert_allclose(found, largest[: len(found)])


@pytest.mark.parametrize("section", [*OF_LAYERS, "paths"])
def test_a_trace_of_ids_alone_has_the_page_too(monkeypatch, tmp_path, section):
    test = clean(
        opened(monkeypatch, bare_trace().save(tmp_path / "b.trace"), page="serving", query={"serving": section})
    )
    assert test.title[0].value == "Serving"


def test_what_needs_weights_says_so_without_them(monkeypatch, tmp_path):
    query = {"serving": "skipping_simulation"}
    test = opened(monkeypatch, bare_trace().save(tmp_path / "b.trace"), page="serving", query=query)
    assert "weights" in clean(test).info[0].value


def test_large_traces_are_read_only_when_asked(monkeypatch, tmp_path):
    from app.state import settings

    monkeypatch.setattr(settings, "WHOLE_TRACE_TOKENS", 10)
    path = routed_trace().save(tmp_path / "a.trace")
    test = page(monkeypatch, path, "cache_simulation")
    assert "all 240 tokens" in test.info[0].value
    assert not any(toggle.key == "cache_simulation_table" for toggle in test.toggle)
    [button] = [button for button in test.button if button.label == "Compute it"]
    clean(button.click().run())
    assert any(toggle.key == "cache_simulation_table" for toggle in test.toggle)
    assert page(monkeypatch, path, "placement_simulation").info == []


@pytest.mark.parametrize("section", [*OF_LAYERS, "paths"])
def test_every_question_stands_a_selection_of_one_layer_and_one_document(monkeypatch, trace_path, section):
    query = {"serving": section, "layer": "1", "where": 'layer == 1 and domain == "code" and document == 0'}
    test = clean(opened(monkeypatch, trace_path, page="serving", query=query))
    assert not test.info
