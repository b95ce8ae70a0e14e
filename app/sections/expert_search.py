"""The search for the tokens of an expert, with steps from one to the next."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.state import controls, settings, sources
from app.widgets import charts, choices, documents

_HERE, _ANYWHERE = "this document", "all documents"
_AT, _ANY = "this layer", "any layer"
_COLUMNS = ["document", "position", "before", "token", "after", "layer", "rank", "weight", "probability"]


def section(view: controls.PageView, excerpt: documents.Excerpt, row: int | None) -> None:
    """Draw the choices, the buttons to the next and the previous token, and the table, whose rows can be clicked.

    Args:
        view: what the page is about.
        excerpt: of the document.
        row: of the token, in the document.
    """
    st.subheader("Tokens of an expert", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        expert = choices.expert(view.stats.num_experts)
        layers = choices.one_of("In", (_AT, _ANY), "found_layer", labelled=True)
        scope = choices.one_of("Search", (_HERE, _ANYWHERE), "found_in", labelled=True)
        order = choices.one_of("Order", ("in the text", "strongest first"), "found_order", labelled=True)
    if expert is None:
        st.caption("Choose an expert to see where in the text it was chosen.")
        return
    number = excerpt.number if scope == _HERE else None
    rows = sources.expert_choices(
        view.source,
        number,
        view.where,
        expert=expert,
        layer=view.layer if layers == _AT else None,
        strongest=settings.ROWS_SHOWN,
    )
    if rows.empty:
        st.info(f"No token of {scope} went to expert {expert} in {layers}.")
        return
    rows = rows if number is None else excerpt.with_number(rows)
    _steps(view, rows, (excerpt.number, -1 if row is None else row))
    ordered = rows if order == "in the text" else rows.sort_values(["weight", "rank"], ascending=[False, True])
    _table(view, ordered, f"expert_{expert}_tokens")


def _steps(view: controls.PageView, rows: pd.DataFrame, current: tuple[int, int]) -> None:
    """Draw buttons from the current token to the previous and the next of the tokens of the search."""
    places = sorted({(int(number), int(row)) for number, row in zip(rows["document"], rows["row"], strict=True)})
    targets = {
        "Previous": max((place for place in places if place < current), default=None),
        "Next": min((place for place in places if place > current), default=None),
    }
    n, listed = int(rows["n"].iloc[0]), len(rows)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for name, place in targets.items():
            icon = f":material/{'arrow_back' if name == 'Previous' else 'arrow_forward'}:"
            st.button(
                name,
                key=f"found_{name.lower()}",
                icon=icon,
                disabled=place is None,
                on_click=documents.go_to,
                args=(*(place or current), view),
            )
        few = f", of which the {listed:,} with the largest weight" if n > listed else ""
        st.caption(f"n = {n:,} choices of this expert{few}. Click a row to see its token in the text.")


def _table(view: controls.PageView, rows: pd.DataFrame, name: str) -> None:
    st.dataframe(
        charts.visible(rows[_COLUMNS]),
        hide_index=True,
        height=280,
        key="found_table",
        on_select=partial(_clicked, view, rows),
        selection_mode="single-row",
    )
    charts.csv_button(rows, "found", name)


def _clicked(view: controls.PageView, rows: pd.DataFrame) -> None:
    event: Any = st.session_state["found_table"]
    for place in event["selection"]["rows"]:
        row = rows[["document", "row"]].iloc[place]
        documents.go_to(int(row["document"]), int(row["row"]), view)
