"""The page about specialization shows what the tables say, and says what cannot be had."""

import numpy as np
import pytest

from mixtral_probe import Trace, tables
from mixtral_probe.stats import routing_stats
from mixtral_probe.tables.registry import metric_of
from tests.support.app_traces import bare_trace, card_values, clean, opened, routed_trace, texts
from tests.support.routing import estimate, pick

SECTIONS = [
    *("domains", "topics", "relevance", "vocabulary", "information", "context", "together", "layers", "repetition"),
]
_MAPS = ("domain_metric", "divergence_metric")


@pytest.fixture(scope="module")
def trace():
    """The tokens of `routed_trace` are of 20 types."""
    made = routed_trace(documents=8, length=40)
    return Trace.from_arrays(
        expert_ids=made.expert_ids,
        num_experts=4,
        token_ids=np.arange(320) * 7 % 20,
        document=made.tokens["document"].to_numpy(),
        documents=made.documents[["id", "domain"]].to_dict("records"),
        piece=[f"<b>{i * 7 % 20}" for i in range(320)],
    )


@pytest.fixture(scope="module")
def path(trace, tmp_path_factory):
    return trace.save(tmp_path_factory.mktemp("special") / "types.trace")


def page(monkeypatch, path, section, *, query=None, **choices):
    test = clean(opened(monkeypatch, path, page="specialization", query=query))
    test.segmented_control(key="section").set_value(section)
    clean(test.run())
    for key, value in choices.items():
        test.segmented_control(key=key).set_value(value)
    return clean(test.run()) if choices else test


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_stands_a_whole_trace_and_a_bare_one(monkeypatch, path, tmp_path, section):
    assert page(monkeypatch, path, section).session_state["section"] == section
    page(monkeypatch, bare_trace().save(tmp_path / "bare.trace"), section)


def test_vocabulary_shows_value_and_null_of_the_table(monkeypatch, path, trace):
    test = page(monkeypatch, path, "vocabulary", query={"layer": "1"}, min_count=10, weighting="token")
    table = tables.vocabulary_specialization(routing_stats(trace))
    own = pick(table, layer=1, group="all", target="input", min_count=10, weighting="token", expert=None)
    for metric in ("vocabulary_specialization", "vocabulary_specialization_crossval"):
        row = pick(own, metric=metric).iloc[0]
        assert card_values(test)[metric_of(metric).label] == metric_of(metric).text(estimate(row))
        assert f"routed by load alone: {row['null']:.1%}" in texts(test)


def test_domains_show_the_information_of_the_table(monkeypatch, path, trace):
    test = page(monkeypatch, path, "domains")
    table = tables.mutual_information(routing_stats(trace))
    row = pick(table, layer=0, variable="domain", metric="mutual_information_bits").iloc[0]
    assert float(card_values(test)["information, bits"]) == pytest.approx(estimate(row), rel=5e-3)
    row = pick(table, layer=0, variable="domain", metric="shuffle_false_discovery").iloc[0]
    assert float(card_values(test)["false discovery rate"]) == pytest.approx(row["value"], rel=5e-2)
    # The tests are dots in the maps and no maps of their own.
    assert not any("false discovery rate" in test.segmented_control(key=key).options for key in _MAPS)


def test_repetition_and_layers_show_the_numbers_of_the_tables(monkeypatch, path, trace):
    stats = routing_stats(trace)
    test = page(monkeypatch, path, "repetition", query={"layer": "2"})
    row = pick(tables.repetition(stats), layer=2, lag=1, group="all", metric="overlap").iloc[0]
    assert card_values(test)["share of experts in common, next token"] == f"{row['value']:.1%}"
    # The last layer has none after it: the page begins at the one before.
    test = page(monkeypatch, path, "layers", query={"layer": "2"})
    row = pick(tables.transitions(stats), layer=1, group="all", expert=None, metric="cramers_v").iloc[0]
    assert float(card_values(test)["Cramér's V, layer 1 to 2"]) == pytest.approx(estimate(row), rel=5e-3)
    test = page(monkeypatch, path, "layers", query={"layer": "1", "choices": "all"})
    row = pick(tables.transitions(stats), layer=1, group="all", expert=None, metric="cramers_v_all_choices").iloc[0]
    assert float(card_values(test)["Cramér's V, layer 1 to 2"]) == pytest.approx(estimate(row), rel=5e-3)


def test_without_domains_or_ids_the_page_says_so(monkeypatch, tmp_path):
    path = bare_trace().save(tmp_path / "bare.trace")
    assert "RoutingStats.from_trace(trace, by=…)" in page(monkeypatch, path, "domains").info[0].value
    assert "oken ids were not recorded" in page(monkeypatch, path, "vocabulary").info[0].value
    assert "no transitions between layers" in page(monkeypatch, path, "layers").info[0].value


def test_relevance_shows_the_table_of_a_domain_and_of_all(monkeypatch, path, trace):
    query = {"layer": "1", "group": "code"}
    test = page(monkeypatch, path, "relevance", query=query)
    table = tables.expert_relevance(routing_stats(trace))
    own = pick(table, group="code", layer=1)
    clean(test.toggle(key="relevance_table").set_value(True).run())
    np.testing.assert_array_equal(test.dataframe[0].value["value"].to_numpy(float), own["value"].to_numpy(float))
    test.toggle(key="relevance_table").set_value(False)
    test.toggle(key="relevance_by_domain").set_value(True)
    clean(test.run())
    clean(test.toggle(key="relevance_domains_table").set_value(True).run())
    every = pick(table, metric="token_selection_ratio")
    np.testing.assert_array_equal(test.dataframe[0].value["value"].to_numpy(float), every["value"].to_numpy(float))
    # Its routing has no weights, so there is one score alone.
    assert test.segmented_control(key="relevance_metric").options == ["token selection ratio"]


def test_what_the_token_before_tells_is_the_number_of_the_table(monkeypatch, path, trace):
    test = page(monkeypatch, path, "context", query={"layer": "2"}, context_metric="mutual_information_bits")
    own = pick(tables.context_information(trace), layer=2, group="all", metric="mutual_information_bits")
    own = own[own["min_count"] == own[own["value"].notna()]["min_count"].max()]
    named = {"token": "the token", "previous token": "the token before"}
    named["previous token|token"] = "the token before, beyond the token itself"
    for variable, label in named.items():
        row = pick(own, variable=variable).iloc[0]
        assert float(card_values(test)[label]) == pytest.approx(estimate(row), rel=5e-3)
        assert f"chance alone: {row['null']:.3g}" in texts(test)


def test_the_token_before_is_read_from_a_large_trace_when_asked(monkeypatch, path):
    from app.state import settings

    monkeypatch.setattr(settings, "WHOLE_TRACE_TOKENS", 10)
    test = page(monkeypatch, path, "context")
    assert "all 320 tokens" in test.info[0].value
    clean(test.button(key="asked_context_information_given-0_button").click().run())
    assert "the token before" in card_values(test)


def test_topics_show_what_shuffled_domains_leave(monkeypatch, path, trace):
    for metric in ("shuffle_p_value", "shuffle_false_discovery"):
        test = page(monkeypatch, path, "topics", query={"layer": "2"}, topic_metric=metric)
        rows = pick(tables.domain_information(trace), layer=2, metric=metric)
        found = card_values(test)
        for variable, label in (("domain", "the domain"), ("domain|token", "beyond the token")):
            own = pick(rows, variable=variable).iloc[0]
            assert float(found[label]) == pytest.approx(estimate(own), rel=5e-2)
