"""Pages on a trace too large to be gone through: they read the statistics beside it, and the rows of one document."""

from dataclasses import replace

import pytest

from mixtral_probe import Trace, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.stats.cached_stats import cache_stats
from tests.support.app_traces import APP, clean, opened, routed_trace

PAGES = [path.stem for path in sorted((APP / "app_pages").glob("[!_]*.py"))]


@pytest.fixture(scope="module")
def trace_path(tmp_path_factory):
    path = routed_trace().save(tmp_path_factory.mktemp("traces") / "large.trace")
    cache_stats(Trace.load(path))
    return path


@pytest.fixture
def guarded(monkeypatch):
    """Every trace counts as large, and going through the rows of more than one document is an error."""
    from app.state import settings

    def of_one_document(function):
        def checked(trace, *arguments, **options):
            assert trace.num_documents == 1, "the rows of a large trace were read"
            return function(trace, *arguments, **options)

        return checked

    monkeypatch.setattr(settings, "WHOLE_TRACE_TOKENS", 0)
    monkeypatch.setattr(RoutingStats, "from_trace", staticmethod(of_one_document(RoutingStats.from_trace)))
    for name, spec in tables.TABLES.items():
        if spec.source == "trace" and spec.per_token:
            monkeypatch.setitem(tables.TABLES, name, replace(spec, function=of_one_document(spec.function)))


@pytest.mark.parametrize("page", PAGES)
def test_no_page_goes_through_the_rows_of_a_large_trace(monkeypatch, trace_path, guarded, page):
    clean(opened(monkeypatch, trace_path, page=page))


@pytest.mark.parametrize("section", ["vocabulary", "information", "together", "layers", "repetition"])
def test_no_question_about_specialization_does_either(monkeypatch, trace_path, guarded, section):
    clean(opened(monkeypatch, trace_path, page="specialization", query={"section": section}))


def test_the_guard_notices(monkeypatch, trace_path, guarded):
    with pytest.raises(AssertionError, match="rows of a large trace"):
        tables.TABLES["routes"].function(Trace.load(trace_path))
    (trace_path / "stats.safetensors").unlink()
    assert opened(monkeypatch, trace_path).exception
