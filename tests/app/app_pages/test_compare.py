"""The page Compare shows the numbers of the table, and says why where two traces cannot be compared."""

import json

import pytest

from mixtral_probe import RoutingStats, Trace, tables
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.figures import decoded
from tests.support.routing import estimate, pick


def moved(trace: Trace) -> Trace:
    """The same texts, every token of layer 1 sent to experts 0 and 1."""
    ids = trace.expert_ids.copy()
    ids[1] = [0, 1]
    return Trace.from_arrays(
        expert_ids=ids,
        token_ids=trace.tokens["token_id"].to_numpy(),
        document=trace.tokens["document"].to_numpy(),
        documents=trace.documents[["id", "domain"]].to_dict("records"),
        num_experts=4,
    )


def test_two_traces_of_the_same_texts(monkeypatch, tmp_path):
    a, b = routed_trace(), moved(routed_trace())
    paths = b.save(tmp_path / "b.trace"), a.save(tmp_path / "a.trace")
    test = opened(monkeypatch, *paths, page="compare")
    clean(test.selectbox(key="pinned").set_value("given-1").run())
    table = tables.agreement(a, b, by="domain")
    whole = table[table["layer"].isna() & (table["group"] == "all")]
    own = dict(zip(whole["metric"], estimate(whole), strict=True))
    shown = card_values(test)
    assert shown["tokens that differ in any layer"] == f"{own['any_layer_differs']:.1%}"
    assert shown["experts in common"] == f"{own['set_overlap']:.1%}"


def test_traces_of_different_texts(monkeypatch, tmp_path):
    paths = routed_trace().save(tmp_path / "a.trace"), routed_trace(length=50).save(tmp_path / "b.trace")
    test = opened(monkeypatch, *paths, page="compare")
    clean(test.selectbox(key="pinned").set_value("given-1").run())
    assert any("they are of the same texts, got document" in info.value for info in test.info)
    assert "Two traces of the same texts" in texts(test)


def test_the_address_bar_names_the_pinned_trace(monkeypatch, tmp_path):
    for name in ("a", "b", "c"):
        routed_trace().save(tmp_path / f"{name}.trace")
    paths = [tmp_path / f"{name}.trace" for name in ("a", "b", "c")]
    offered = opened(monkeypatch, *paths, page="compare").selectbox(key="pinned").options
    named = next(name for name in offered if name.startswith("c"))
    test = clean(opened(monkeypatch, *paths, page="compare", query={"pinned": named}))
    assert test.selectbox(key="pinned").value == "given-2"
    clean(test.selectbox(key="trace").set_value("given-2").run())
    assert test.selectbox(key="pinned").value != "given-2"


def test_groups_layers_and_slices_of_one_trace(monkeypatch, tmp_path):
    trace = routed_trace(documents=12)
    test = clean(opened(monkeypatch, trace.save(tmp_path / "a.trace"), page="compare"))
    stats = RoutingStats.from_trace(trace, by="domain")
    assert drawn_differences(test) == pytest.approx(differences(tables.group_differences(stats), expert=None))
    clean(test.selectbox(key="difference").set_value("selection_frequency_difference").run())
    own = tables.group_differences(stats).query("layer == 0")
    assert drawn_differences(test) == pytest.approx(differences(own, "selection_frequency_difference"))
    clean(test.segmented_control(key="between").set_value("slices").run())
    test.text_input(key="slice_from").set_value("position < 30")
    clean(test.text_input(key="slice_to").set_value("position >= 30").run())
    parts = [RoutingStats.from_trace(trace, where=where) for where in ("position < 30", "position >= 30")]
    own = tables.slice_differences(*parts).query("layer == 0")
    assert drawn_differences(test) == pytest.approx(differences(own, "selection_frequency_difference"))
    clean(test.segmented_control(key="between").set_value("layers").run())
    assert "documents are left out of both sides at once" in texts(test)
    clean(test.segmented_control(key="between").set_value("slices").run())
    test.text_input(key="slice_from").set_value("position <").run()
    assert any("Not compared" in error.value for error in test.error)


def drawn_differences(test):
    """The numbers of the first figure of bars on the page."""
    figures = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    bars = [decoded(figure["data"][0]["y"]) for figure in figures if figure["data"][0]["type"] == "bar"]
    return list(bars[0])


def differences(table, metric="cv_squared_difference", **keys):
    return list(estimate(pick(table, metric=metric, **keys)))
