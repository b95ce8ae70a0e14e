"""Addresses of dashboard pages that an earlier version wrote show what they showed."""

import pytest

from tests.support.app_traces import clean, opened

PAGES = ["expert_load", "token_routing", "attention", "balance_loss", "specialization", "what_if"]


@pytest.mark.parametrize("page", PAGES)
def test_a_link(monkeypatch, data, expected, page):
    query, state = expected["addresses"][page]["query"], expected["addresses"][page]["state"]
    test = clean(opened(monkeypatch, data / "run.trace", page=page, query=query))
    assert [warning.value for warning in test.warning] == []
    assert {key: test.session_state[key] for key in state} == state
    assert {name: value[-1] if isinstance(value, list) else value for name, value in test.query_params.items()} == query


def test_every_page_is_here(expected):
    assert set(expected["addresses"]) == set(PAGES)
