"""A box drawn on the map of the page Expert load narrows what every page is about, and a button widens it again."""

import pytest

from mixtral_probe import Selection, Trace, tables
from mixtral_probe.selection import Numbers, unboxed
from mixtral_probe.stats import RoutingStats
from tests.support.app_traces import card_values, clean, opened, row
from tests.support.routing import estimate

BOX = "layer in 1..2 and expert in 2..3"


def drawn(test, layers, experts):
    """The page after a box was dragged over these cells, as the browser tells of it."""
    cells = [[layer, expert] for layer in layers for expert in experts]
    points = [{"curve_number": 1, "x": e, "y": layer, "customdata": [layer, e]} for layer, e in cells]
    box = [{"xref": "x", "yref": "y", "x": [0, 1], "y": [0, 1]}] if cells else []
    test.session_state["load_map_chart"] = {
        "selection": {"points": points, "point_indices": [], "box": box, "lasso": []}
    }
    return clean(test.run())


def where(test) -> str:
    return test.text_input(key="where").value


def test_the_numbers_of_the_page_are_those_of_the_box(monkeypatch, trace_path):
    test = drawn(clean(opened(monkeypatch, trace_path, page="expert_load")), [1, 2], [2, 3])
    assert where(test) == BOX
    assert test.query_params["where"] in (BOX, [BOX])
    assert test.session_state["layer"] == 1, "layer 0 is not in the box"
    boxed = Selection(layers=Numbers.of([1, 2]), experts=Numbers.of([2, 3])).expression
    stats = RoutingStats.from_trace(Trace.load(trace_path), by="domain", where=boxed)
    expected = row(tables.balance(stats), "cv_squared", layer=1, group="all")
    assert float(card_values(test)["CV²"]) == pytest.approx(estimate(expected), rel=5e-3)


def test_a_layer_in_the_box_stays_chosen(monkeypatch, trace_path):
    test = drawn(clean(opened(monkeypatch, trace_path, page="expert_load", query={"layer": "2"})), [1, 2], [2, 3])
    assert test.session_state["layer"] == 2


def test_a_second_box_takes_the_place_of_the_first_and_what_was_said_before_comes_back(monkeypatch, trace_path):
    said = "token.number in 5..40 and layer in 0..2"
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"where": said}))
    assert not [button for button in test.button if button.key == "show_all"]
    drawn(test, [1, 2], [2, 3])
    assert where(test) == f"{BOX} and ({said})"
    drawn(test, [0], [1])
    assert where(test) == f"layer in {{0}} and expert in {{1}} and ({said})"
    assert test.session_state["layer"] == 0
    clean(test.button(key="show_all").click().run())
    assert where(test) == said
    assert not [button for button in test.button if button.key == "show_all"]


def test_a_box_is_applied_once(monkeypatch, trace_path):
    test = drawn(clean(opened(monkeypatch, trace_path, page="expert_load")), [1, 2], [2, 3])
    clean(test.text_input(key="where").set_value("token.number > 3").run())
    assert where(test) == "token.number > 3"
    clean(test.segmented_control(key="load").set_value("gate_share").run())
    assert where(test) == "token.number > 3"


def test_a_box_around_nothing_changes_nothing(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load"))
    drawn(test, [], [])
    assert where(test) == ""


def test_a_link_with_a_box_offers_the_way_back(monkeypatch, trace_path):
    query = {"where": "layer in 1..2 and expert in 2..3 and @middle", "layer": "1", "slice": "middle:position in 5..40"}
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query=query))
    clean(test.button(key="show_all").click().run())
    assert where(test) == "@middle"


def test_a_box_in_which_nothing_is_selected_leads_back(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"where": "layer == 0"}))
    drawn(test, [1, 2], [2, 3])
    assert "No token of layer 1 is selected" in test.title[0].value
    clean(test.button(key="show_all").click().run())
    assert where(test) == "layer == 0"


def test_a_box_takes_the_place_of_a_mistake(monkeypatch, trace_path):
    test = opened(monkeypatch, trace_path, page="expert_load", query={"where": "layer ="})
    assert not test.exception
    drawn(test, [1, 2], [2, 3])
    assert where(test) == BOX
    assert unboxed(where(test)) == ""
