"""The tables of the page about two traces, cached."""

import pandas as pd
import streamlit as st

from app.state import address, sources
from mixtral_probe import InputError, tables, training_traces
from mixtral_probe.tables import agreement


def choose(other: sources.TraceSource) -> sources.TraceSource | None:
    """Draw the choice of trace A, with which trace B is compared, and return it; None without another trace."""
    by_key = {source.key: source for source in sources.available() if source.key != other.key}
    if not by_key:
        return None
    names = sources.names(list(by_key.values()))
    address.keep("pinned", list(by_key), named=names.__getitem__)
    key = st.selectbox(
        "Compare with (A)",
        list(by_key),
        format_func=names.__getitem__,
        key="pinned",
        width=360,
    )
    return by_key[key]


def agreement_of(first: sources.TraceSource, second: sources.TraceSource) -> pd.DataFrame:
    """Compute `tables.agreement` of two traces, by domain where the first has one.

    Raises:
        InputError: they are of different texts, or of models of different shape.
    """
    return _agreement(first, second, first.stamp, second.stamp)


@st.cache_resource(
    max_entries=8, show_spinner="Comparing …", hash_funcs={sources.TraceSource: lambda source: source.key}
)
def _agreement(first: sources.TraceSource, second: sources.TraceSource, *stamps: str) -> pd.DataFrame:
    a, b = sources.open_trace(first), sources.open_trace(second)
    return agreement(a, b, by="domain" if "domain" in a.labels else None)


@st.cache_resource(max_entries=1, show_spinner="Reading the traces of training …")
def saturation() -> pd.DataFrame | None:
    """Compute `tables.saturation` of the embedded model's training; None if its traces are not installed."""
    try:
        return tables.saturation(training_traces())
    except InputError:
        return None
