"""Choosing a document and a window of it."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.state import address, controls, settings, sources
from mixtral_probe import Trace, strip


@dataclass(frozen=True)
class Excerpt:
    """One window of one document."""

    number: int
    """Of the document, in the trace."""
    trace: Trace
    """Of this document alone."""
    window: strip.Window

    @property
    def scope(self) -> str:
        """Which tokens these are, in words."""
        first, last = self.window.start, self.window.stop - 1
        return f"document {self.number} · tokens {first:,} – {last:,} of {self.trace.num_tokens:,}"

    def with_number(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of this document alone, with the document's number in the trace."""
        return table.assign(document=self.number)


def choose(view: controls.PageView) -> Excerpt:
    """Draw the choices; documents follow the chosen group."""
    numbers = _numbers(view)
    address.keep("document", numbers)
    ids = view.trace.documents["id"].astype(str).tolist()
    left, right = st.columns([2, 3], vertical_alignment="bottom", gap="large")
    with left:
        number = st.selectbox(
            "Document", numbers, format_func=lambda n: f"{n} · {ids[n]}", key="document", on_change=_start_anew
        )
    trace = sources.document(view.source, number)
    windows = strip.windows(trace.num_tokens, settings.TOKENS_SHOWN)
    with right:
        page = 1
        if len(windows) > 1:
            address.keep("window", range(1, len(windows) + 1))
            page = st.pagination(len(windows), key="window")
    _labels(view.trace, number)
    return Excerpt(number, trace, windows[page - 1] if windows else strip.Window(0, 0))


def current_row(excerpt: Excerpt) -> int | None:
    """The row of the picked token in the shown document, which the address holds; None before any is picked."""
    address.keep("picked", [None, *range(excerpt.trace.num_tokens)], named=lambda row: "" if row is None else str(row))
    row: int | None = st.session_state["picked"]
    return row


def second_layer(view: controls.PageView) -> int | None:
    """Draw the choice of a second layer for the same text; None for none."""
    layers = [layer for layer in view.stats.layers if layer != view.layer]
    if not layers:
        return None
    if st.session_state.get("beside_layer") == view.layer:
        # Chosen on the left since, which is no mistake in the address.
        st.session_state["beside_layer"] = None
        address.query().pop("beside_layer", None)
    options = [None, *layers]
    address.keep("beside_layer", options, named=lambda layer: "" if layer is None else str(layer))
    beside: int | None = st.selectbox(
        "Beside layer",
        options,
        format_func=lambda layer: f"beside layer {layer}",
        placeholder="no layer beside",
        key="beside_layer",
        label_visibility="collapsed",
        width=200,
    )
    return beside


def pick(row: int) -> None:
    """Pick a token of the shown document; for callbacks."""
    st.session_state["picked"] = row


def go_to(number: int, row: int, view: controls.PageView) -> None:
    """Show a document at one of its tokens, which is picked; for callbacks."""
    if number not in _numbers(view):
        st.session_state["group"] = controls.ALL
    st.session_state["document"], st.session_state["window"] = number, row // settings.TOKENS_SHOWN + 1
    pick(row)


def _start_anew() -> None:
    st.session_state["window"], st.session_state["picked"] = 1, None


def _numbers(view: controls.PageView) -> list[int]:
    documents = view.trace.documents
    by = view.stats.by
    mine = documents
    if by is not None and view.group != controls.ALL:
        mine = documents[(documents[by].astype(str) == view.group).to_numpy(dtype=bool)]
    return [int(number) for number in (mine if len(mine) else documents)["document"]]


def _labels(trace: Trace, number: int) -> None:
    """The document's labels as badges; a label is somebody's text, so it is shown as code, which is never markup."""
    row = trace.documents.iloc[number]
    badges = [f"{name}: {row[name]}" for name in trace.labels if pd.notna(row[name])]
    if badges:
        st.caption(" ".join(f"`{text.replace('`', chr(39))}`" for text in badges))
