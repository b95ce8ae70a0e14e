"""The field Where: every page follows it, and the address keeps it."""

import pytest

from mixtral_probe import Trace, tables
from mixtral_probe.stats import RoutingStats
from tests.support.app_traces import card_values, clean, opened, row, texts
from tests.support.routing import estimate

PAGES = ["expert_load", "token_routing", "balance_loss"]
WHERE = "token.number in 5..40 and layer in {0, 2}"


def test_a_page_shows_what_the_expression_says(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"where": WHERE}))
    stats = RoutingStats.from_trace(Trace.load(trace_path), by="domain", where=WHERE)
    expected = row(tables.balance(stats), "cv_squared", layer=0, group="all")
    assert float(card_values(test)["CV²"]) == pytest.approx(estimate(expected), rel=5e-3)
    assert expected["n"] == 4 * 36
    assert "n = 144 tokens" in texts(test)
    assert "Applied: 288 of 720 tokens × layers (40.0%)." in texts(test)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_stands_a_selection_of_one_layer_and_one_domain(monkeypatch, trace_path, page):
    query = {"where": 'layer == 1 and domain == "code" and document == 0', "layer": "1"}
    clean(opened(monkeypatch, trace_path, page=page, query=query))


def test_where_nothing_is_selected_the_page_says_so_and_leads_back(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={"where": "layer == 1"}))
    assert "No token of layer 0 is selected" in test.title[0].value
    clean(test.button(key="go_to_selected").click().run())
    assert test.session_state["layer"] == 1
    assert test.title[0].value == "Token routing"
    clean(test.text_input(key="where").set_value('token contains "nowhere"').run())
    assert "No token of layer 1" in test.title[0].value
    clean(test.button(key="show_everything").click().run())
    assert test.text_input(key="where").value == ""


@pytest.mark.parametrize("where", ["layer = 1", "colour == 1", "<script>", '"' * 50, "@nothing"])
def test_a_mistake_is_shown_at_its_place_and_nothing_is_in_force(monkeypatch, trace_path, where):
    test = opened(monkeypatch, trace_path, page="expert_load", query={"where": where})
    assert not test.exception
    assert test.error[0].value == "Not applied:"
    assert "^" in test.code[0].value.splitlines()[-1]
    assert "n = 240 tokens" in texts(test)


def test_a_slice_is_kept_used_and_in_the_address(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"where": WHERE}))
    clean(test.text_input(key="slice_name").set_value("middle").run())
    clean(test.button(key="slice_keep").click().run())
    assert test.text_input(key="where").value == "@middle"
    assert test.query_params["slice"] in (f"middle:{WHERE}", [f"middle:{WHERE}"])
    assert "Applied: 288 of 720" in texts(test)
    again = clean(
        opened(monkeypatch, trace_path, page="expert_load", query={"where": "@middle", "slice": f"middle:{WHERE}"})
    )
    assert "Applied: 288 of 720" in texts(again)
    clean(again.selectbox(key="slice_taken").set_value("first_tokens").run())
    assert again.text_input(key="where").value == "(@middle) and @first_tokens"


def test_a_broken_slice_in_the_address_is_let_be(monkeypatch, trace_path):
    clean(opened(monkeypatch, trace_path, page="expert_load", query={"slice": "a b:layer =="}))


def test_the_tables_of_one_document_follow_the_expression(monkeypatch, trace_path):
    query = {"where": "document == 2 and token.number in 5..9"}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    clean(test.selectbox(key="document").set_value(2).run())
    assert test.dataframe[-1].value["position"].unique().tolist() == [5, 6, 7, 8, 9]


def test_words_are_shown_as_their_table_says(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={"unit": "word"}))
    expected = tables.unit_routes(Trace.load(trace_path).select([0]), unit="word")
    expected = expected[(expected["layer"] == 0).to_numpy(dtype=bool)]
    assert test.dataframe[-1].value["value"].tolist() == pytest.approx(expected["value"].tolist())
    assert "largest share of each word's gate weights" in texts(test)
