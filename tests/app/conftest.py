"""What the tests of the dashboard share: traces on disk, and an empty cache before each test."""

from pathlib import Path

import pytest
import streamlit as st

from tests.support.app_traces import bare_trace, routed_trace


@pytest.fixture(scope="session")
def trace_path(tmp_path_factory) -> Path:
    """`routed_trace` on disk."""
    return routed_trace().save(tmp_path_factory.mktemp("traces") / "random.trace")


@pytest.fixture(scope="session")
def bare_path(tmp_path_factory) -> Path:
    """`bare_trace` on disk."""
    return bare_trace().save(tmp_path_factory.mktemp("traces") / "bare.trace")


@pytest.fixture(autouse=True)
def _empty_cache():
    """No table, trace or registry of jobs stays from one test to the next."""
    yield
    st.cache_resource.clear()
    st.cache_data.clear()
