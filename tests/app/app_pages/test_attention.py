"""The page about attention shows what the tables say."""

from types import SimpleNamespace

import numpy as np
import pytest

from app.jobs import models
from mixtral_probe import Trace, tables
from tests.support.app_traces import card_values, clean, opened, routed_trace, texts
from tests.support.attention_traces import SINK, attentive_trace
from tests.support.routing import pick


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return attentive_trace().save(tmp_path_factory.mktemp("traces") / "maps.trace")


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    return attentive_trace(maps=False).save(tmp_path_factory.mktemp("traces") / "summaries.trace")


def page(monkeypatch, path, **query):
    return clean(opened(monkeypatch, path, page="attention", query=query))


def document(test, number):
    return clean(test.selectbox(key="document").set_value(number).run())


def with_table(test, key):
    """The table below a chart."""
    before = len(test.dataframe)
    test.toggle(key=f"{key}_table").set_value(True)
    clean(test.run())
    assert len(test.dataframe) == before + 1
    return test


def click(test, key, customdata, box=()):
    test.session_state[f"{key}_chart"] = {
        "selection": {"points": [{"customdata": customdata}], "point_indices": [0], "box": list(box), "lasso": []}
    }
    return clean(test.run())


def test_a_click_on_the_overview_chooses_layer_and_head(monkeypatch, whole):
    test = click(page(monkeypatch, whole), "heads_map", [1, 2])
    assert test.session_state["layer"] == 1
    assert test.session_state["head"] == 2
    summary = tables.attention_summary(Trace.load(whole))
    share = pick(summary, layer=1, head=2, metric="sink_share")["value"].item()
    assert card_values(test)["share on position 0"] == f"{share:.1%}"


def test_the_sink_head_is_one_button_away(monkeypatch, whole):
    test = page(monkeypatch, whole)
    clean(test.button(key="attention_find_sink_share").click().run())
    assert (test.session_state["layer"], test.session_state["head"]) == SINK


def test_a_click_on_the_map_chooses_the_query_whose_row_is_shown(monkeypatch, whole):
    test = document(page(monkeypatch, whole, layer="1", head="0"), 2)
    click(test, "attention_map", [7, 3])
    frame = with_table(test, "attention_row").dataframe[-1].value
    expected = tables.attention_weights(Trace.load(whole), layer=1, head=0, document=2, queries=(7, 8))
    np.testing.assert_array_equal(frame["value"], expected["value"])
    assert set(frame["document"]) == {2}


def test_a_token_clicked_in_the_text_is_the_query(monkeypatch, whole):
    test = document(page(monkeypatch, whole, layer="0"), 1)
    test.session_state["attention_strip"] = {"selected": 5}
    clean(test.run())
    frame = with_table(test, "attended").dataframe[-1].value
    expected = tables.attended_experts(Trace.load(whole), layer=0, query=5, document=1)
    np.testing.assert_allclose(frame["value"], expected["value"])


def test_a_part_of_the_map_is_shown_at_full_resolution(monkeypatch, whole):
    test = page(monkeypatch, whole, layer="1", head="1")
    test = click(test, "attention_map", [9, 3], box=[{"x": [1.6, 5.2], "y": [8.9, 11.4], "xref": "x", "yref": "y"}])
    frame = with_table(test, "attention_part").dataframe[-1].value
    expected = tables.attention_weights(Trace.load(whole), layer=1, head=1, queries=(9, 12), keys=(2, 6))
    assert list(zip(frame["query"], frame["position"], frame["value"], strict=True)) == list(
        zip(expected["query"], expected["position"], expected["value"], strict=True)
    )


def test_rollout_and_who_looks_at_a_token(monkeypatch, whole):
    test = page(monkeypatch, whole, layer="1")
    click(test, "attention_map", [6, 1])
    test.segmented_control(key="attention_way").set_value("is reached by (rollout)")
    clean(test.run())
    frame = with_table(test, "attention_row").dataframe[-1].value
    np.testing.assert_allclose(frame["value"], tables.attention_rollout(Trace.load(whole), query=6)["value"])
    test.segmented_control(key="attention_way").set_value("is looked at by")
    clean(test.run())
    assert set(test.dataframe[-1].value["position"]) == {6}
    assert test.dataframe[-1].value["query"].tolist() == list(range(6, 12))


def test_attention_and_routing_is_that_of_the_table(monkeypatch, whole):
    test = page(monkeypatch, whole, layer="1")
    frame = with_table(test, "attention_routing").dataframe[-1].value
    table = tables.attention_routing(Trace.load(whole))
    expected = pick(table, layer=1, metric="entropy_bits_difference")
    np.testing.assert_array_equal(frame["value"], expected["value"])
    np.testing.assert_array_equal(frame["low"], expected["low"])
    assert "Of all documents" in texts(test)


def test_heads_side_by_side_are_the_heads_maps(monkeypatch, whole):
    test = page(monkeypatch, whole)
    frame = with_table(test, "attention_multiples").dataframe[-1].value
    assert sorted(set(frame["head"])) == [0, 1, 2]
    assert len(frame) == 3 * 78


def test_without_maps_the_page_offers_to_compute_them_and_says_why_it_cannot(monkeypatch, summaries):
    test = page(monkeypatch, summaries)
    assert "keeps summaries of its attention heads" in texts(test)
    monkeypatch.setattr(models, "embedded", lambda: SimpleNamespace(retrace=refuse))
    clean(test.button(key="attention_compute").click().run())
    assert test.warning[0].value == "made with other weights"


def refuse(trace, **_):
    from mixtral_probe import InputError

    raise InputError("made with other weights")


def test_attention_computed_now_is_that_of_the_run(monkeypatch, summaries):
    again = attentive_trace(documents=1)
    asked = {}
    monkeypatch.setattr(
        models,
        "embedded",
        lambda: SimpleNamespace(retrace=lambda trace, **how: asked.update(how) or again),
    )
    test = page(monkeypatch, summaries, layer="1", head="2")
    clean(test.button(key="attention_compute").click().run())
    assert asked == {"document": 0, "chunk": 0, "attention": "all"}
    click(test, "attention_map", [4, 0])
    frame = with_table(test, "attention_row").dataframe[-1].value
    expected = tables.attention_weights(again, layer=1, head=2, queries=(4, 5))
    np.testing.assert_array_equal(frame["value"], expected["value"])
    assert "Of this document alone" in texts(test)


def test_a_trace_without_any_attention_says_so(monkeypatch, tmp_path):
    test = page(monkeypatch, routed_trace(length=12).save(tmp_path / "plain.trace"))
    assert "This trace has no attention" in texts(test)
    assert test.button(key="attention_compute").label == "Compute the attention of this document"


def test_layers_that_were_not_recorded_are_named(monkeypatch, tmp_path):
    path = attentive_trace(layers=3, recorded=(0, 2)).save(tmp_path / "some.trace")
    test = page(monkeypatch, path, layer="1")
    assert "has the attention of layers 0, 2, not of layer 1" in texts(test)
