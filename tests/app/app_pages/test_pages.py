"""Every page shows what the tables say, and stands whatever it is given."""

import ast
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import Trace, tables
from mixtral_probe.stats import RoutingStats, routing_stats
from tests.support.app_traces import APP, ENTRY, card_values, clean, opened, routed_trace, row, texts
from tests.support.routing import estimate, pick

PAGES = [path.stem for path in sorted((APP / "app_pages").glob("[!_]*.py"))]


@pytest.mark.parametrize("path", sorted((APP / "app_pages").glob("*.py")), ids=lambda path: path.stem)
def test_a_page_holds_no_text_by_itself_which_streamlit_would_show(path):
    _, *rest = ast.parse(path.read_text(encoding="utf-8")).body
    assert not [node.lineno for node in rest if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]


def test_there_are_the_pages():
    assert {"overview", "expert_load", "token_routing", "balance_loss", "run"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_whole_trace(monkeypatch, trace_path, page):
    clean(opened(monkeypatch, trace_path, page=page))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_a_trace_with_nothing_but_expert_ids(monkeypatch, bare_path, page):
    clean(opened(monkeypatch, bare_path, page=page))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_an_address_that_names_what_is_not_there(monkeypatch, trace_path, page):
    query = {
        "trace": "nowhere",
        "layer": "99",
        "group": "<b>",
        "expert": "77",
        "document": "x",
        "rank": "5",
        "load": "?",
    }
    clean(opened(monkeypatch, trace_path, page=page, query=query))


def test_without_a_trace_the_page_says_what_to_do(monkeypatch):
    from app.state import settings

    monkeypatch.setattr(settings, "EXAMPLE", "no-such.trace")
    test = clean(opened(monkeypatch))
    assert "No trace is open" in test.title[0].value
    assert "mixtral-probe capture" in test.code[0].value


def test_a_trace_that_is_none_is_told_of_in_one_sentence(monkeypatch, tmp_path):
    test = opened(monkeypatch, tmp_path / "nothing.trace")
    assert not test.exception
    assert "a trace is a folder with a trace.json" in test.error[0].value


def test_arguments_of_another_program_are_not_taken_for_traces(monkeypatch):
    from app.state import sources

    monkeypatch.setattr(sys, "argv", ["pytest", "something.trace"])
    assert [source for source in sources.available() if source.key.startswith("given")] == []
    monkeypatch.setattr(sys, "argv", [str(ENTRY), "a/x.trace", "b/x.trace"])
    given = [source for source in sources.available() if source.key.startswith("given")]
    assert list(sources.names(given).values()) == ["x.trace", "x.trace (2)"]


def test_expert_load_shows_the_numbers_of_the_table(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"layer": "2", "group": "code"}))
    expected = row(tables.balance(routing_stats(Trace.load(trace_path))), "cv_squared", layer=2, group="code")
    assert float(card_values(test)["CV²"]) == pytest.approx(estimate(expected), rel=5e-3)
    assert f"n = {expected['n']:,} tokens" in texts(test)


def test_a_click_on_the_map_chooses_layer_and_expert(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load"))
    point = {"curve_number": 1, "point_index": 5, "x": 3, "y": 1, "customdata": [1, 3]}
    test.session_state["load_map_chart"] = {
        "selection": {"points": [point], "point_indices": [5], "box": [], "lasso": []}
    }
    clean(test.run())
    assert test.session_state["layer"] == 1
    assert test.session_state["expert"] == 3
    expected = row(tables.expert_load(routing_stats(Trace.load(trace_path))), "share", layer=1, group="all", expert=3)
    assert card_values(test)["share of assignments"] == f"{expected['value']:.1%}"


def test_the_legend_of_token_routing_shows_the_documents_own_shares(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing"))
    own = RoutingStats.from_trace(Trace.load(trace_path).select([0]))
    ranks = tables.load_by_rank(own)
    html = texts(test)
    for expert in range(4):
        share = row(ranks, "rank_share", layer=0, expert=expert, rank=0)["value"]
        assert f"<b>{expert}</b> {share:.1%}" in html


def test_the_routes_shown_are_those_of_the_table(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing"))
    expected = tables.routes(Trace.load(trace_path))
    expected = expected[((expected["document"] == 0) & (expected["layer"] == 0)).to_numpy(dtype=bool)]
    frame = test.dataframe[-1].value
    assert frame["expert"].tolist() == expected["expert"].tolist()
    assert frame["margin"].tolist() == pytest.approx(expected["margin"].tolist())


def test_documents_follow_the_chosen_domain(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing"))
    clean(test.selectbox(key="group").set_value("prose").run())
    assert test.selectbox(key="document").options == ["1 · text-1", "3 · text-3"]


def test_balance_loss_shows_the_numbers_of_the_table(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="balance_loss"))
    table = tables.balance_loss(routing_stats(Trace.load(trace_path)))
    pooled = row(table, "load_balancing_loss_pooled", group="all")
    layer = row(table, "load_balancing_loss", group="all", layer=0)
    assert float(card_values(test)["pooled loss (transformers)"]) == pytest.approx(estimate(pooled), rel=1e-3)
    assert float(card_values(test)["loss of one layer, layer 0"]) == pytest.approx(estimate(layer), rel=1e-3)
    assert pooled["balanced"] == 2
    assert layer["balanced"] == 1
    assert layer["null"] > 1


def test_balance_loss_writes_out_what_pooling_hides(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="balance_loss"))
    table = tables.balance_loss(routing_stats(Trace.load(trace_path)))
    equation = next(code.value for code in test.code if "−" in code.value)
    left, middle, right = (side.strip() for side in equation.split("="))
    mean, gap = (Decimal(number) for number in right.split(" − "))
    assert Decimal(middle) == mean - gap
    assert float(mean) == pytest.approx(row(table, "load_balancing_loss_mean", group="all")["value"], abs=5e-5)
    pooled = row(table, "load_balancing_loss_pooled", group="all")
    assert float(left.split("/")[0]) == pytest.approx(pooled["value"], abs=1e-4)
    assert pooled["scope"] in texts(test)


@pytest.mark.parametrize("group", ["all", "code"])
def test_balance_in_other_forms_is_shown_when_the_address_says_so(monkeypatch, trace_path, group):
    query = {"variants": "shown", "group": group}
    test = clean(opened(monkeypatch, trace_path, page="balance_loss", query=query))
    clean(test.toggle(key="balance_variants_table").set_value(True).run())
    own = pick(tables.balance_variants(routing_stats(Trace.load(trace_path))), group=group)
    np.testing.assert_array_equal(test.dataframe[0].value["value"].to_numpy(float), own["value"].to_numpy(float))
    assert "dotted: uniform routing, for losses independent routing; dashed: balanced losses" in texts(test)


def test_balance_in_other_forms_stands_a_trace_of_ids_alone(monkeypatch, bare_path):
    test = clean(opened(monkeypatch, bare_path, page="balance_loss", query={"variants": "shown"}))
    assert "max violation, mean of windows" in str(test.get("plotly_chart")[1].proto)


@pytest.mark.parametrize("metric", ["contribution", "excess", "pooling_gap_groups"])
def test_every_part_of_the_loss_can_be_shown(monkeypatch, trace_path, metric):
    test = clean(opened(monkeypatch, trace_path, page="balance_loss"))
    test.toggle(key="loss_by_domain").set_value(True)
    test.segmented_control(key="part").set_value(metric)
    clean(test.run())
    # What pooling the domains hides is about all of them together.
    assert ("loss_by_domain" in [toggle.key for toggle in test.toggle]) == (metric != "pooling_gap_groups")


def test_a_csv_is_the_file_that_the_table_writes(tmp_path):
    from app.widgets import charts

    table = tables.routes(routed_trace(length=12))
    expected = tables.write_csv(table, tmp_path / "routes.csv").read_bytes()
    assert charts.csv_bytes(table) == expected


@pytest.mark.parametrize("dtype", ["str", "category", object])
def test_a_table_on_screen_shows_what_cannot_be_seen_of_a_token(dtype):
    from app.widgets import charts

    table = pd.DataFrame({"token": [" the", "\n", None, "a\u202e"], "before": [" a b"] * 4}).astype({"token": dtype})
    shown = charts.visible(table)
    assert shown["token"].iloc[[0, 1, 3]].tolist() == ["␣the", "⏎", "a⟨U+202E⟩"]
    assert pd.isna(shown["token"].iloc[2])
    assert shown["before"].tolist() == table["before"].tolist()


def test_the_browser_can_fetch_what_draws_charts_before_the_first_one(monkeypatch, tmp_path):
    from app.widgets import charts

    script = charts.drawing_script()
    assert script is not None, "this version of Streamlit calls it otherwise: charts come later, but they come"
    test = clean(opened(monkeypatch, routed_trace().save(tmp_path / "a.trace")))
    assert any(f"import('./static/js/{script}')" in part.proto.body for part in test.get("html"))


def test_the_load_of_the_real_model_is_shown_when_asked_for(monkeypatch, tmp_path):
    test = clean(opened(monkeypatch, routed_trace().save(tmp_path / "a.trace"), page="expert_load"))
    assert not any(toggle.key == "real_map_table" for toggle in test.toggle)
    clean(test.toggle(key="real").set_value(True).run())
    assert test.session_state["address"]["real"] == ["shown"]
    clean(test.toggle(key="real_map_table").set_value(True).run())
    real = pick(tables.real_mixtral_load(), group="mmlu", metric="share")
    np.testing.assert_array_equal(test.dataframe[0].value["value"], real["value"])
