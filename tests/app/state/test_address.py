"""The address bar: a link shows the same view to everybody, and what it names wrongly falls back."""

import pytest

from mixtral_probe import Selection
from tests.support.app_traces import clean, opened, routed_trace

PAGES = ["expert_load", "token_routing", "balance_loss", "specialization", "experts"]
LINKS = [
    ("token_routing", {"document": "3"}, "document", 3),
    ("token_routing", {"unit": "sentence"}, "unit", "sentence"),
    ("token_routing", {"rank": "1"}, "rank", 1),
    ("balance_loss", {"document": "2"}, "document", 2),
    ("balance_loss", {"part": "contribution"}, "part", "contribution"),
    ("expert_load", {"layer": "2"}, "layer", 2),
    ("expert_load", {"group": "prose"}, "group", "prose"),
    ("expert_load", {"expert": "3"}, "expert", 3),
    ("expert_load", {"load": "gate_share"}, "load", "gate_share"),
    ("experts", {"expert": "3"}, "expert", 3),
    ("specialization", {"section": "vocabulary", "expert": "2"}, "expert", 2),
    ("specialization", {"section": "layers", "steps": "5"}, "steps", 5),
    ("specialization", {"section": "information"}, "section", "information"),
    ("expert_load", {"load_map_table": "shown"}, "load_map_table", True),
    ("balance_loss", {"loss_by_domain": "shown"}, "loss_by_domain", True),
    ("token_routing", {"routes_table": "hidden"}, "routes_table", False),
    ("token_routing", {"routes_all_layers": "shown"}, "routes_all_layers", True),
]
"""Page, address, key of a widget, and what it must show."""


def warnings(test) -> list[str]:
    return [warning.value for warning in test.warning]


@pytest.mark.parametrize(("page", "query", "key", "value"), LINKS)
def test_a_link_opens_what_it_names_and_stays_in_the_address(monkeypatch, trace_path, page, query, key, value):
    test = clean(opened(monkeypatch, trace_path, page=page, query=query))
    assert test.session_state[key] == value
    assert warnings(test) == []
    for name, text in query.items():
        assert test.query_params[name] in (text, [text])


def test_what_was_chosen_is_in_the_address_by_its_key(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing"))
    assert set(test.query_params) == {"trace"}
    clean(test.selectbox(key="document").set_value(2).run())
    clean(test.segmented_control(key="rank").set_value(1).run())
    assert test.query_params["document"] in ("2", ["2"])
    assert test.query_params["rank"] in ("1", ["1"])


def test_a_choice_survives_pages_on_which_it_is_not_shown(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="token_routing"))
    clean(test.selectbox(key="document").set_value(2).run())
    for page in ("balance_loss", "overview", "expert_load", "balance_loss", "token_routing"):
        clean(test.switch_page(f"app_pages/{page}.py").run())
        assert test.query_params["document"] in ("2", ["2"])
    assert test.selectbox(key="document").value == 2


def test_a_table_stays_open_from_page_to_page_and_in_the_address(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load"))
    clean(test.toggle(key="load_map_table").set_value(True).run())
    for page in ("overview", "expert_load"):
        clean(test.switch_page(f"app_pages/{page}.py").run())
        assert test.query_params["load_map_table"] in ("shown", ["shown"])
    assert test.toggle(key="load_map_table").value
    assert len(test.dataframe) == 1


@pytest.mark.parametrize(("key", "text", "fallback"), [("document", "77", 0), ("unit", "<b>`x`", "token")])
def test_what_is_not_there_gives_one_sentence_and_falls_back(monkeypatch, trace_path, key, text, fallback):
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query={key: text}))
    assert test.session_state[key] == fallback
    shown = text.replace("`", "'")
    assert warnings(test) == [f"The address names the {key} `{shown}`, which is not here; `{fallback}` is shown."]
    assert test.query_params[key] in (str(fallback), [str(fallback)])


def test_an_address_of_several_layers_is_honoured(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"layer": "1,2"}))
    assert test.select_slider(key="layer").value == 1
    assert test.text_input(key="where").value == "layer in {1..2}"
    assert warnings(test) == []


def test_the_address_of_a_selection_in_python_opens_on_the_page(monkeypatch, trace_path):
    query = {"layer": "0,2", "document": "1,3", "token": "5..40", "where": 'domain == "prose"'}
    test = clean(opened(monkeypatch, trace_path, page="token_routing", query=query))
    assert test.session_state["layer"] == 0
    assert test.session_state["document"] == 1
    said = Selection(where=test.text_input(key="where").value)
    trace = routed_trace()
    assert (said.mask(trace) == Selection.from_query(query).mask(trace)).all()


def test_ranges_that_cannot_be_read_fall_back(monkeypatch, trace_path):
    test = clean(opened(monkeypatch, trace_path, page="expert_load", query={"layer": "2..1"}))
    assert test.select_slider(key="layer").value == 0
