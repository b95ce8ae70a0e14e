"""The choices that every page follows: trace, layer, group and selection, in the sidebar and in the address bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.state import address, sources, where_field
from mixtral_probe import InputError, Trace
from mixtral_probe.stats import ALL, RoutingStats


@dataclass(frozen=True)
class PageView:
    """The trace and the part of it that the pages are about."""

    source: sources.TraceSource
    trace: Trace
    stats: RoutingStats
    layer: int
    """As the model numbers it."""
    group: str
    where: str | None = None
    """Which tokens count in which layer, as an expression; None for all. `stats` and `table` are of these alone."""

    @property
    def row(self) -> int:
        """Of the layer, on the first axis of the trace's arrays."""
        return self.stats.layers.index(self.layer)

    def table(self, name: str) -> pd.DataFrame:
        """Compute a table of the whole trace, or of what `where` selects."""
        return sources.table(self.source, name, self.where)

    def figure(self, name: str, of: str | None = None, **options: Any) -> go.Figure:
        """Draw a figure by its name in `figures`, of the table `of`, by default the one of the same name."""
        return sources.figure(self.source, name, of or name, self.where, **options)


def sidebar() -> None:
    """Draw the choices and keep them for the page of this run."""
    _apply()
    with st.sidebar:
        st.session_state["view"] = _choose()


def current() -> PageView | None:
    """Return the choices of this run; None where no trace is open."""
    view: PageView | None = st.session_state.get("view")
    return view


def view() -> PageView:
    """Return the choices of this run; without a trace or a selected token, draw why in place of the page."""
    view = current()
    if view is None:
        _nothing_to_show()
        st.stop()
    if view.where is not None and not view.stats.sums.tokens[view.row].any():
        _nothing_selected(view)
        st.stop()
    return view


def set_on_next_run(**values: Any) -> None:
    """Set widgets by key at the start of the next run, since a widget already drawn cannot be set."""
    st.session_state.setdefault("set_on_next_run", {}).update(values)


def _apply() -> None:
    """Set the widgets that `set_on_next_run` named in the last run."""
    for key, value in st.session_state.pop("set_on_next_run", {}).items():
        st.session_state[key] = value


def keep_valid(key: str, options: Sequence[Any]) -> None:
    """Drop a choice that is no longer an option, as when another trace has fewer layers."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


def _choose() -> PageView | None:
    by_key = {source.key: source for source in sources.available()}
    if not by_key:
        return None
    names = sources.names(list(by_key.values()))
    address.keep("trace", list(by_key), always=True, named=names.__getitem__)
    key = st.selectbox("Trace", list(by_key), format_func=names.__getitem__, key="trace")
    try:
        trace, whole = sources.open_trace(by_key[key]), sources.stats(by_key[key])
    except InputError as error:
        st.error(str(error))
        return None
    layer, group = _layer(whole.layers), _group(whole.groups)
    where, stats = where_field.choose(by_key[key], whole)
    _describe(by_key[key], trace)
    return PageView(by_key[key], trace, stats, layer, group, where)


def _layer(layers: tuple[int, ...]) -> int:
    address.keep("layer", layers)
    if len(layers) == 1:
        return layers[0]
    return st.select_slider("Layer", layers, key="layer")


def _group(groups: tuple[str, ...]) -> str:
    options = [ALL, *(name for name in groups if name != ALL)]
    address.keep("group", options)
    if len(options) == 1:
        return ALL
    return st.selectbox("Domain", options, format_func=_group_name, key="group")


def _group_name(group: str) -> str:
    return "all documents" if group == ALL else group


def _describe(source: sources.TraceSource, trace: Trace) -> None:
    if source.about:
        st.text(source.about)
    model = trace.meta.model.get("name") or "a model without a name"
    st.caption(
        f"**{model}** · {trace.num_layers} layers × {trace.num_experts} experts, {trace.num_experts_per_tok} per token"
        f"  \n{trace.num_documents:,} document{'s' * (trace.num_documents != 1)} · {trace.num_tokens:,} tokens"
    )


def _nothing_selected(view: PageView) -> None:
    elsewhere = [layer for row, layer in enumerate(view.stats.layers) if view.stats.sums.tokens[row].any()]
    with st.container(border=True):
        st.title(f":material/filter_alt_off: No token of layer {view.layer} is selected", anchor=False)
        st.write("The expression in the field **Where**, on the left, selects none of them:")
        st.code(view.where, language=None, wrap_lines=True)
        if elsewhere:
            st.write(f"It selects some in layers {', '.join(map(str, elsewhere))}.")
            go = f"Go to layer {elsewhere[0]}"
            st.button(go, key="go_to_selected", on_click=set_on_next_run, kwargs={"layer": elsewhere[0]})
        if not where_field.draw_box_removal():
            st.button("Show everything again", key="show_everything", on_click=set_on_next_run, kwargs={"where": ""})


def _nothing_to_show() -> None:
    with st.container(border=True):
        st.title(":material/database_off: No trace is open yet", anchor=False)
        st.write("A trace is the record of one run: which experts every token was sent to, in every layer.")
        st.write("Make one on the page **Run**, or in a terminal, and open it here:")
        st.code(
            "mixtral-probe capture --model mini --corpus bundled --out my.trace\nmixtral-probe dashboard my.trace",
            language="bash",
        )
        st.page_link("app_pages/run.py", label="Run a capture", icon=":material/play_circle:")
