"""Every table of a page is of what the field Where selects, or the page says that it is not."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from app.state import sources
from mixtral_probe import Trace, tables
from mixtral_probe.selection import select
from mixtral_probe.stats import routing_stats
from tests.support.app_traces import clean, opened, routed_trace, texts
from tests.support.attention_traces import attentive_trace

WHERE = "token.number in 3..40"
PAGES = {
    "expert_load": ("expert_load", {}),
    "balance": ("expert_load", {}),
    "load_by_rank": ("expert_load", {}),
    "router_confidence": ("overview", {}),
    "balance_loss": ("balance_loss", {}),
    "balance_loss_breakdown": ("balance_loss", {}),
    "balance_loss_tokens": ("balance_loss", {}),
    "balance_variants": ("balance_loss", {"variants": "shown"}),
    "routes": ("token_routing", {}),
    "domain_specialization": ("specialization", {}),
    "group_divergence": ("specialization", {}),
    "domain_information": ("specialization", {"section": "topics"}),
    "expert_relevance": ("specialization", {"section": "relevance"}),
    "vocabulary_specialization": ("specialization", {"section": "vocabulary"}),
    "expert_tokens": ("specialization", {"section": "vocabulary"}),
    "mutual_information": ("specialization", {"section": "information"}),
    "context_information": ("specialization", {"section": "context"}),
    "coactivation": ("specialization", {"section": "together"}),
    "transitions": ("specialization", {"section": "layers"}),
    "repetition": ("specialization", {"section": "repetition"}),
    "group_differences": ("compare", {"between": "groups"}),
    "layer_differences": ("compare", {"between": "layers"}),
    "attention_summary": ("attention", {}),
    "attention_routing": ("attention", {}),
    **{
        name: ("serving", {"serving": name})
        for name in (
            "placement_simulation", "cache_simulation", "capacity_simulation", "skipping_simulation", "paths"
        )
    },
}  # fmt: skip
"""The page and the choices that show a table."""
WITHOUT_A_PAGE = {"router_confidence_histogram"}


@pytest.fixture(scope="module")
def typed_path(tmp_path_factory):
    """Texts of 20 types of token."""
    trace = routed_trace(length=80)
    typed = Trace.from_arrays(
        expert_ids=trace.expert_ids,
        expert_weights=trace.expert_weights,
        router_logits=trace.router_logits,
        num_experts=4,
        token_ids=np.arange(320) * 7 % 20,
        document=trace.tokens["document"].to_numpy(),
        documents=trace.documents[["id", "domain"]].to_dict("records"),
        piece=[f" w{i * 7 % 20}" for i in range(320)],
    )
    return typed.save(tmp_path_factory.mktemp("where") / "typed.trace")


@pytest.fixture(scope="module")
def attentive_path(tmp_path_factory):
    return attentive_trace().save(tmp_path_factory.mktemp("where") / "attentive.trace")


def recorded(monkeypatch, name):
    """All that the function of a table returns from now on."""
    spec, returned = tables.TABLES[name], []

    @functools.wraps(spec.function)
    def function(of, **options):
        returned.append(spec.function(of, **options))
        return returned[-1]

    monkeypatch.setitem(tables.TABLES, name, replace(spec, function=function))
    return returned


def computed(name, trace, where):
    """The table in Python, of document 0 alone where the page shows one document."""
    spec = tables.TABLES[name]
    if spec.source == "stats":
        return spec.function(routing_stats(trace, where))
    of = trace if where is None else select(trace, where)
    return spec.function(of.select([0]) if name == "routes" else of)


def test_every_table_of_a_trace_has_a_page_or_is_known_to_have_none():
    assert set(PAGES) | WITHOUT_A_PAGE == set(tables.TABLES)


@pytest.mark.parametrize("name", PAGES)
def test_a_table_is_narrowed_or_the_page_says_that_it_is_not(monkeypatch, typed_path, attentive_path, name):
    page, query = PAGES[name]
    path = attentive_path if page == "attention" else typed_path
    whole, narrow = (computed(name, Trace.load(path), where) for where in (None, WHERE))
    returned = recorded(monkeypatch, name)
    test = clean(opened(monkeypatch, path, page=page, query={**query, "where": WHERE}))
    note = "The expression in **Where** does not narrow this" in texts(test)
    if sources.narrows(name):
        assert not narrow.equals(whole)
        assert any(table.equals(narrow) for table in returned)
        assert page in ("attention", "token_routing", "compare") or not note
    else:
        assert any(table.equals(whole) for table in returned)
        assert note


def test_without_an_expression_no_page_speaks_of_it(monkeypatch, attentive_path):
    assert "does not narrow" not in texts(clean(opened(monkeypatch, attentive_path, page="attention")))
