"""Token routing: finding tokens by expert, picking them, and what the field Where leaves out."""

import pytest

from app.state import settings
from app.widgets import token_strip
from mixtral_probe import Trace, strip, tables
from tests.support.app_traces import clean, opened, routed_trace, texts


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    monkeypatch.setattr(settings, "TOKENS_SHOWN", 25)


def found(test):
    return next(frame.value for frame in test.dataframe if "before" in frame.value)


def test_the_found_tokens_are_those_of_the_table(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={"expert": "2", "layer": "1"}))
    trace = Trace.load(trace_path)
    chose = [row for row in range(60) if 2 in trace.expert_ids[1, row]]
    assert found(test)["position"].tolist() == chose
    assert f"n = {len(chose)} choices of this expert" in texts(test)
    clean(test.segmented_control(key="found_order").set_value("strongest first").run())
    weights = [float(trace.expert_weights[1, row][trace.expert_ids[1, row] == 2][0]) for row in chose]
    assert found(test)["weight"].tolist() == pytest.approx(sorted(weights, reverse=True))
    test.segmented_control(key="found_layer").set_value("any layer")
    clean(test.segmented_control(key="found_in").set_value("all documents").run())
    assert len(found(test)) == int((trace.expert_ids == 2).sum())
    expected = tables.expert_choices(trace, expert=2)["weight"].sort_values(ascending=False).tolist()
    assert found(test)["weight"].tolist() == pytest.approx(expected)


def test_next_and_previous_go_through_the_text(monkeypatch, trace_path):
    query = {"expert": "2", "layer": "1", "picked": "0"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    ids = Trace.load(trace_path).expert_ids[1, :60]
    chose = [row for row in range(1, 60) if 2 in ids[row]]
    for row in chose:
        clean(test.button(key="found_next").click().run())
        assert test.session_state["picked"] == row
        assert test.session_state["window"] == row // 25 + 1
    assert test.button(key="found_next").disabled
    assert test.query_params["picked"] in (str(chose[-1]), [str(chose[-1])])
    assert test.query_params["window"] in ("3", ["3"])
    clean(test.button(key="found_previous").click().run())
    assert test.session_state["picked"] == chose[-2]


def test_going_to_a_document_of_another_domain_shows_all_domains(monkeypatch, trace_path):
    query = {"expert": "2", "group": "code", "found_in": "all documents", "document": "2", "picked": "57"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    clean(test.segmented_control(key="found_layer").set_value("any layer").run())
    while test.session_state["document"] == 2:
        clean(test.button(key="found_next").click().run())
    assert test.session_state["document"] == 3
    assert test.session_state["group"] == "all"


def test_a_link_shows_the_picked_token_in_its_window(monkeypatch, trace_path):
    query = {"document": "2", "window": "3", "picked": "55"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    assert "document 2 · position 55" in texts(test)
    assert "tokens 50 – 59 of 60" in texts(test)
    clean(test.selectbox(key="document").set_value(1).run())
    assert "tokens 0 – 24 of 60" in texts(test)
    assert test.session_state["picked"] is None


def test_what_where_leaves_out_is_dimmed_and_not_hidden():
    trace = routed_trace(documents=1, length=20)
    tokens = strip.by_expert(trace, tables.routes(trace), strip.TokenRange(5, 15), layer=1, row=1, rank=0)
    dimmed = strip.dimmed(tokens, {7, 8})
    assert [token.row for token in dimmed if not token.dim] == [7, 8]
    assert [(token.text, token.color) for token in dimmed] == [(token.text, token.color) for token in tokens]


def test_the_units_shown_are_those_of_what_is_selected(monkeypatch, trace_path):
    where = "token.number in 5..9"
    query = {"where": where, "unit": "word"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    from mixtral_probe.selection import select

    expected = tables.unit_routes(select(Trace.load(trace_path), where).select([0]), unit="word")
    expected = expected[(expected["layer"] == 0).to_numpy(dtype=bool)]
    assert set(test.dataframe[-1].value["position"]) == set(expected["position"]) <= set(range(5, 10))
    assert test.dataframe[-1].value["value"].tolist() == pytest.approx(expected["value"].tolist())


def test_units_without_a_selected_token_are_dimmed():
    from mixtral_probe.selection import select

    trace = routed_trace(documents=1, length=20)
    whole = tables.unit_routes(trace, unit="word")
    own = tables.unit_routes(select(trace, "token.number in 8..9"), unit="word")
    drawn = strip.by_unit(trace, whole, strip.TokenRange(0, 20), layer=0, selected=own)
    assert [token.row for token in drawn] == [
        token.row for token in strip.by_unit(trace, whole, strip.TokenRange(0, 20), layer=0)
    ]
    assert [token.row for token in drawn if not token.dim] == [8, 9]


def shared_by_hand(trace, a, b):
    return [len(set(trace.expert_ids[layer, a]) & set(trace.expert_ids[layer, b])) for layer in range(3)]


def test_a_pinned_token_stays_beside_the_next_one_picked(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={"document": "2", "picked": "7"}))
    clean(test.button(key="pin_token").click().run())
    assert test.query_params["pinned_token"] in ("2.7", ["2.7"])
    assert "route_overlap" not in str([chart.key for chart in test.get("plotly_chart")])
    test.session_state["picked"] = 9
    clean(test.run())
    page = texts(test)
    assert "document 2 · position 7" in page
    assert "document 2 · position 9" in page
    shared = shared_by_hand(Trace.load(trace_path), 127, 129)
    assert [metric.value for metric in test.metric if metric.label == "experts in common"] == [str(sum(shared))]
    clean(test.toggle(key="route_overlap_table").set_value(True).run())
    table = next(frame.value for frame in test.dataframe if "shared_experts" in set(frame.value.get("metric", [])))
    table = table[table["metric"] == "shared_experts"]
    assert table["value"].tolist() == [*shared, sum(shared)]
    assert table["null"].tolist() == [1, 1, 1, 3]  # K^2 / E = 2 * 2 / 4
    clean(test.button(key="unpin_token").click().run())
    assert "pinned_token" not in test.query_params
    assert "document 2 · position 7" not in texts(test)


def test_a_link_holds_the_pinned_token_of_another_document(monkeypatch, trace_path):
    query = {"document": "1", "picked": "3", "pinned_token": "2.7"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    assert "document 2 · position 7" in texts(test)
    assert "document 1 · position 3" in texts(test)
    shared = shared_by_hand(Trace.load(trace_path), 127, 63)
    assert str(sum(shared)) in [metric.value for metric in test.metric]


@pytest.mark.parametrize("asked", ["9.0", "2.60", "2", "**x**"])
def test_a_pinned_token_that_is_not_there_is_told_of_and_forgotten(monkeypatch, trace_path, asked):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={"pinned_token": asked}))
    assert [note.value for note in test.warning] == [
        f"The address names the pinned token `{asked}`, which is not here."
    ]
    assert "pinned_token" not in test.query_params
    clean(test.run())
    assert not test.warning


def test_the_same_text_by_a_second_layer(monkeypatch, trace_path):
    drawn = {}

    def kept(tokens, key, label, **_):
        drawn[key] = (label, [token.color for token in tokens])

    monkeypatch.setattr(token_strip, "show", kept)
    query = {"document": "2", "layer": "1", "beside_layer": "2"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    from mixtral_probe.figures import expert_colors

    trace = Trace.load(trace_path)
    for key, layer in (("strip", 1), ("strip_beside", 2)):
        label, colors = drawn[key]
        assert label.endswith(f"layer {layer}")
        assert colors == [expert_colors(4)[first] for first in trace.expert_ids[layer, 120:145, 0]]
    assert test.query_params["beside_layer"] in ("2", ["2"])
    drawn.clear()
    clean(test.selectbox(key="beside_layer").set_value(None).run())
    assert list(drawn) == ["strip"]
    assert "beside_layer" not in test.query_params
    clean(test.selectbox(key="beside_layer").set_value(0).run())
    clean(test.select_slider(key="layer").set_value(0).run())
    assert test.session_state["beside_layer"] is None
    assert not test.warning
