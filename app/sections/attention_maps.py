"""The attention maps of a page: from the open trace, or of a window run again on request."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.jobs import models
from app.state import controls, settings, sources
from app.widgets import documents, job_list
from mixtral_probe import InputError, Trace, tables


@dataclass(frozen=True)
class Maps:
    """One window of one document, with the attention of the chosen layer."""

    key: tuple[Any, ...]
    """Unique."""
    trace: Trace
    """Of this document alone, as document 0."""
    chunk: int
    """The window, in `trace`."""
    place: int
    """The first row of the window in the document."""
    size: int
    """S, its tokens."""
    layer: int
    row: int
    """Of the layer in the trace's arrays."""
    again: bool
    """Whether the window was run again for this page."""

    @property
    def heads(self) -> tuple[int, ...]:
        """The recorded heads of the layer."""
        return self.trace.attention_heads(self.row)

    def links(self, head: int | None, **which: Any) -> pd.DataFrame:
        """Compute `tables.attention_weights` of the window, cached."""
        return _links(self, self.key, self.chunk, self.layer, head, **which)

    def rollout(self, query: int) -> pd.DataFrame:
        """Compute `tables.attention_rollout` of one query up to the chosen layer."""
        return _rollout(self, self.key, self.chunk, self.layer, query)

    def experts(self, head: int | None, query: int) -> pd.DataFrame:
        """Compute `tables.attended_experts` of one query."""
        return tables.attended_experts(self.trace, layer=self.layer, query=query, head=head, chunk=self.chunk)


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner=False)
def _links(_maps: Maps, key: tuple[Any, ...], chunk: int, layer: int, head: int | None, **which: Any) -> pd.DataFrame:
    return tables.attention_weights(_maps.trace, layer=layer, head=head, chunk=chunk, **which)


@st.cache_resource(max_entries=settings.TABLES_KEPT, show_spinner="Rolling the attention out …")
def _rollout(_maps: Maps, key: tuple[Any, ...], chunk: int, layer: int, query: int) -> pd.DataFrame:
    return tables.attention_rollout(_maps.trace, query=query, layer=layer, chunk=chunk)


def maps(view: controls.PageView, excerpt: documents.Excerpt) -> Maps | None:
    """Return the maps of a window at the chosen layer; where there are none, draw a button that computes them."""
    chunks = excerpt.trace.tokens["chunk"].to_numpy()
    if not len(chunks):
        st.info("This document has no token.")
        return None
    chunk = int(chunks[excerpt.window.start])
    inside = (chunks == chunk).nonzero()[0]
    source = (str(view.source.path), view.source.stamp, excerpt.number)
    about = {"place": int(inside[0]), "size": len(inside), "layer": view.layer, "row": view.row}
    record = excerpt.trace.attention_record
    if record is not None and record.plan.maps and view.row in excerpt.trace.attention_layers:
        return Maps(source, excerpt.trace, chunk, again=False, **about)
    if not _confirm(view, len(inside)):
        return None
    layers = "all" if len(inside) <= settings.RETRACED_TOKENS else str(view.row)
    try:
        trace = _retrace(view.source, *source, chunk, layers)
    except InputError as error:
        st.warning(str(error))
        return None
    return Maps((*source, chunk, layers), trace, 0, again=True, **about)


@st.cache_resource(max_entries=settings.RETRACED_KEPT, show_spinner="Running this text again for its attention …")
def _retrace(_source: sources.TraceSource, path: str, stamp: str, number: int, chunk: int, layers: str) -> Trace:
    return models.embedded().retrace(sources.open_trace(_source), document=number, chunk=chunk, attention=layers)


def _confirm(view: controls.PageView, size: int) -> bool:
    """Return whether to compute the attention; if not yet, draw why it is missing and a button."""
    if st.session_state.get("attention_again"):
        return True
    recorded = [view.stats.layers[row] for row in view.trace.attention_layers]
    record = view.trace.attention_record
    if record is None:
        why = "This trace has no attention."
    elif not record.plan.maps:
        why = "This trace keeps summaries of its attention heads, above, but no maps: which token attended to which."
    else:
        why = f"This trace has the attention of layers {', '.join(map(str, recorded))}, not of layer {view.layer}."
    with st.container(border=True):
        st.markdown(f":material/visibility_off: **{why}**")
        layers = "every layer" if size <= settings.RETRACED_TOKENS else f"layer {view.layer}"
        st.write(
            f"The embedded model can run these {size:,} tokens once more and show the attention of {layers}; "
            "nothing is written to the trace. Whole corpora with attention are captured on the page **Run**."
        )
        st.button(
            "Compute the attention of this document",
            key="attention_compute",
            type="primary",
            icon=":material/play_arrow:",
            on_click=lambda: st.session_state.update(attention_again=True),
        )
    return False


@st.cache_resource(max_entries=settings.RETRACED_KEPT, show_spinner=False)
def _lens(_source: sources.TraceSource, path: str, stamp: str, number: int, chunk: int) -> Any:
    return models.embedded().logit_lens_again(sources.open_trace(_source), document=number, chunk=chunk)


def lens(view: controls.PageView, number: int, chunk: int) -> Any:
    """Compute the logit lens of a window of the trace.

    Raises:
        InputError: the trace was made with another model.
    """
    needed = models.embedded().estimate_logit_lens_again(sources.open_trace(view.source), document=number, chunk=chunk)
    with st.spinner(f"Reading every layer as a prediction, about {job_list.seconds(needed.seconds)} …"):
        return _lens(view.source, str(view.source.path), view.source.stamp, number, chunk)
