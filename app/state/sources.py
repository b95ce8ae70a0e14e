"""The traces to choose from, opened once and cached, with their statistics and tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.jobs import captures, registry
from app.state import roots, settings
from mixtral_probe import InputError, Trace, figures, tables
from mixtral_probe.resources import data_path
from mixtral_probe.selection import select
from mixtral_probe.stats import RoutingStats, routing_stats


@dataclass(frozen=True)
class TraceSource:
    """One trace on disk."""

    key: str
    """Unique."""
    name: str
    """What the page and the address bar call it."""
    path: Path
    about: str = ""
    """What is in it; never in the address bar."""

    @property
    def stamp(self) -> str:
        """Changes when another trace is written to the path."""
        return f"{(self.path / 'trace.json').stat().st_mtime_ns:x}"


def available() -> list[TraceSource]:
    """List what this session may open.

    These are the traces named on the command line, the example, the session's captures, those it opened by path, and
    the published captures of other sessions.
    """
    return [*_from_command_line(), *_example(), *session_captures(), *_by_path(), *_published_captures()]


def names(sources: list[TraceSource]) -> dict[str, str]:
    """Name each by its key, with a number where two have one name: the address bar must distinguish them."""
    names_by_key: dict[str, str] = {}
    for source in sources:
        alike = sum(source.name == other.name for other in sources if other.key in names_by_key)
        names_by_key[source.key] = f"{source.name} ({alike + 1})" if alike else source.name
    return names_by_key


def add_capture(key: str, name: str, path: Path, about: str) -> None:
    """Add a finished capture to the traces of this session."""
    st.session_state.setdefault("captures", {})[key] = TraceSource(key, name, path, about)


def session_captures() -> list[TraceSource]:
    """List this session's captures that are still on disk."""
    listed: dict[str, TraceSource] = st.session_state.get("captures", {})
    return [source for source in listed.values() if _is_trace(source.path)]


def open_path(text: str) -> TraceSource:
    """Add a trace to those of this session by its path.

    Raises:
        InputError: it does not lie below an allowed folder, or is no trace.
    """
    path = roots.resolve(text)
    if not _is_trace(path):
        raise InputError(
            f"a trace is a folder with a trace.json, got {path}; name a folder that `mixtral-probe capture` wrote"
        )
    source = TraceSource(f"path-{path}", path.name, path)
    st.session_state.setdefault("opened_paths", {})[source.key] = source
    return source


def _by_path() -> list[TraceSource]:
    listed: dict[str, TraceSource] = st.session_state.get("opened_paths", {})
    return [source for source in listed.values() if _is_trace(source.path)]


def _published_captures() -> list[TraceSource]:
    """List the published captures of other sessions, without the names of the sessions."""
    jobs = registry.registry().published(captures.KIND)
    others = [job for job in jobs if job.session != registry.session()]
    published = [TraceSource(job.id, f"{job.name}, published", job.result, job.about) for job in others if job.result]
    return [source for source in published if _is_trace(source.path)]


def _from_command_line() -> list[TraceSource]:
    named = [argument for argument in roots.arguments() if not argument.startswith(roots.OPTION)]
    paths = [Path(argument).expanduser().resolve() for argument in named]
    return [TraceSource(f"given-{number}", path.name, path) for number, path in enumerate(paths)]


def _example() -> list[TraceSource]:
    try:
        path = data_path(settings.EXAMPLE)
    except InputError:
        return []
    return [TraceSource("example", "Example", path)]


def _is_trace(path: Path) -> bool:
    return (path / "trace.json").is_file()


def open_trace(source: TraceSource) -> Trace:
    """Open a trace, memory-mapped.

    Raises:
        InputError: the folder has no trace, or it is damaged.
    """
    if not _is_trace(source.path):
        raise InputError(f"a trace is a folder with a trace.json, got {source.path}; name a folder that capture wrote")
    return _open(str(source.path), source.stamp)


@st.cache_resource(max_entries=settings.TRACES_OPEN, show_spinner="Opening the trace …")
def _open(path: str, stamp: str) -> Trace:
    return Trace.load(path)


@st.cache_resource(max_entries=2 * settings.TRACES_OPEN, show_spinner="Reading the statistics …")
def _stats(path: str, stamp: str, where: str | None) -> RoutingStats:
    return routing_stats(_open(path, stamp), where)


@st.cache_resource(max_entries=settings.TRACES_OPEN, show_spinner="Selecting …")
def _selection(path: str, stamp: str, where: str) -> Trace:
    return select(_open(path, stamp), where)


@st.cache_resource(max_entries=2 * settings.TRACES_OPEN, show_spinner=False)
def _document(path: str, stamp: str, document: int) -> Trace:
    return _open(path, stamp).select([document])


def stats(source: TraceSource, where: str | None = None) -> RoutingStats:
    """Return the statistics of a trace, by domain where its documents have one, or those of a selection.

    Raises:
        SelectionError: the expression names what the trace lacks.
    """
    return _stats(str(source.path), source.stamp, where)


def document(source: TraceSource, number: int) -> Trace:
    """Return one document as a trace, in which it is document 0."""
    return _document(str(source.path), source.stamp, number)


def table(source: TraceSource, name: str, where: str | None = None) -> pd.DataFrame:
    """Compute a table by its name in `tables.TABLES`, of the whole trace or, where a selection narrows it, of that."""
    return _table(str(source.path), source.stamp, name, None, where if narrows(name) else None)


def narrows(name: str) -> bool:
    """Return whether a selection narrows a table; attention was summed over all tokens while the model ran."""
    return tables.TABLES[name].narrows


def document_table(source: TraceSource, name: str, number: int, where: str | None = None) -> pd.DataFrame:
    """Compute a table of one document, document 0 of it, or of what is selected in the document."""
    return _table(str(source.path), source.stamp, name, number, where)


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner="Computing …")
def _units(path: str, stamp: str, number: int, unit: str, where: str | None) -> pd.DataFrame:
    return tables.unit_routes(_part(path, stamp, number, where), unit=unit)


def unit_table(source: TraceSource, number: int, unit: str, where: str | None = None) -> pd.DataFrame:
    """Compute `tables.unit_routes` of one document, document 0 of it, or of what is selected in the document."""
    return _units(str(source.path), source.stamp, number, unit, where)


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner="Searching …")
def _expert_choices(path: str, stamp: str, number: int | None, where: str | None, **options: Any) -> pd.DataFrame:
    return tables.expert_choices(_part(path, stamp, number, where), **options)


def expert_choices(source: TraceSource, number: int | None, where: str | None = None, **options: Any) -> pd.DataFrame:
    """Compute `tables.expert_choices` of the whole trace, or of one document, document 0 of it."""
    return _expert_choices(str(source.path), source.stamp, number, where, **options)


def _part(path: str, stamp: str, number: int | None, where: str | None) -> Trace:
    """Return the trace or one document of it, or what is selected there."""
    if where is None:
        return _open(path, stamp) if number is None else _document(path, stamp, number)
    # An expression may name documents by number, so it is applied before one of them is selected.
    whole = _selection(path, stamp, where)
    return whole if number is None else whole.select([number])


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner="Computing …")
def _table(path: str, stamp: str, name: str, number: int | None, where: str | None) -> pd.DataFrame:
    """Compute a table; the cache returns the frame itself, without a copy, so no caller may change it."""
    spec = tables.TABLES[name]
    if spec.source == "stats" and number is None:
        return spec.function(_stats(path, stamp, where))
    of = _part(path, stamp, number, where)
    return spec.function(of if spec.source == "trace" else RoutingStats.from_trace(of))


def figure(source: TraceSource, name: str, of: str, where: str | None = None, **options: Any) -> go.Figure:
    """Draw a figure of a `table`, by its name in `figures`; it is cached, so only copies may be changed."""
    return _figure(source, source.stamp, name, of, where, **options)


@st.cache_resource(
    max_entries=settings.TABLES_KEPT, show_spinner=False, hash_funcs={TraceSource: lambda source: str(source.path)}
)
def _figure(source: TraceSource, stamp: str, name: str, of: str, where: str | None, **options: Any) -> go.Figure:
    drawn: go.Figure = getattr(figures, name)(table(source, of, where), **options)
    return drawn


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner=False)
def real_figure(name: str, **options: Any) -> go.Figure:
    """Draw a figure of `real_mixtral`, cached like those of `figure`."""
    drawn: go.Figure = getattr(figures, name)(real_mixtral(), **options)
    return drawn


@st.cache_resource(max_entries=1)
def real_mixtral() -> pd.DataFrame:
    """Read the published counts of the real Mixtral-8x7B."""
    return tables.real_mixtral_load()
