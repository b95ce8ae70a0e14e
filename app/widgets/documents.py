"""The choice of a document and of a window of it."""

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
    window: strip.TokenRange

    @property
    def scope(self) -> str:
        """Say which tokens these are."""
        first, last = self.window.start, self.window.stop - 1
        return f"document {self.number} · tokens {first:,} – {last:,} of {self.trace.num_tokens:,}"

    def with_number(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table of this document with the document's number in the trace."""
        return table.assign(document=self.number)


def choose(view: controls.PageView) -> Excerpt:
    """Draw the choices; the documents are those of the chosen group."""
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
    return Excerpt(number, trace, windows[page - 1] if windows else strip.TokenRange(0, 0))


def current_row(excerpt: Excerpt) -> int | None:
    """Return the row of the token picked in the document, which is in the address; None before a pick."""
    address.keep("picked", [None, *range(excerpt.trace.num_tokens)], named=lambda row: "" if row is None else str(row))
    row: int | None = st.session_state["picked"]
    return row


def second_layer(view: controls.PageView) -> int | None:
    """Draw the choice of a second layer for the same text and return it, or None."""
    layers = [layer for layer in view.stats.layers if layer != view.layer]
    if not layers:
        return None
    if st.session_state.get("beside_layer") == view.layer:
        # The reader has chosen this layer in the sidebar since, which is not a mistake in the address.
        st.session_state["beside_layer"] = None
        address.query().pop("beside_layer", None)
    options = [None, *layers]
    address.keep("beside_layer", options, named=lambda layer: "" if layer is None else str(layer))
    second: int | None = st.selectbox(
        "Second layer",
        options,
        format_func=lambda layer: f"with layer {layer}",
        placeholder="no second layer",
        key="beside_layer",
        label_visibility="collapsed",
        width=200,
    )
    return second


def pick(row: int) -> None:
    """Pick a token of the document; for callbacks."""
    st.session_state["picked"] = row


def go_to(number: int, row: int, view: controls.PageView) -> None:
    """Go to a document and pick one of its tokens; for callbacks."""
    if number not in _numbers(view):
        st.session_state["group"] = controls.ALL
    st.session_state["document"], st.session_state["window"] = number, row // settings.TOKENS_SHOWN + 1
    pick(row)


def _start_anew() -> None:
    st.session_state["window"], st.session_state["picked"] = 1, None


def _numbers(view: controls.PageView) -> list[int]:
    documents = view.trace.documents
    by = view.stats.by
    of_group = documents
    if by is not None and view.group != controls.ALL:
        of_group = documents[(documents[by].astype(str) == view.group).to_numpy(dtype=bool)]
    return [int(number) for number in (of_group if len(of_group) else documents)["document"]]


def _labels(trace: Trace, number: int) -> None:
    """Draw the document's labels as code, which is never markup: a label may be any text."""
    row = trace.documents.iloc[number]
    badges = [f"{name}: {row[name]}" for name in trace.labels if pd.notna(row[name])]
    if badges:
        st.caption(" ".join(f"`{text.replace('`', chr(39))}`" for text in badges))
