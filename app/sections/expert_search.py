"""Finding the tokens of an expert, and going from one to the next."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.state import controls, settings, sources
from app.widgets import charts, choices, documents

_HERE, _ANYWHERE = "this document", "all documents"
_AT, _ANY = "this layer", "any layer"
_COLUMNS = ["document", "position", "before", "token", "after", "layer", "rank", "weight", "probability"]


def section(chosen: controls.Chosen, shown: documents.Shown, row: int | None) -> None:
    """The choices, the way to the next and the previous token, and the table, whose rows can be clicked.

    Args:
        chosen: what the page shows.
        shown: the document.
        row: of the token that is looked at, in the document.
    """
    st.subheader("Tokens of an expert", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        expert = choices.expert(chosen.stats.num_experts)
        layers = choices.one_of("In", (_AT, _ANY), "found_layer", labelled=True)
        scope = choices.one_of("Search", (_HERE, _ANYWHERE), "found_in", labelled=True)
        order = choices.one_of("Order", ("in the text", "strongest first"), "found_order", labelled=True)
    if expert is None:
        st.caption("Choose an expert to see where in the text it was chosen.")
        return
    number = shown.number if scope == _HERE else None
    found = sources.expert_choices(
        chosen.source,
        number,
        chosen.where,
        expert=expert,
        layer=chosen.layer if layers == _AT else None,
        strongest=settings.ROWS_SHOWN,
    )
    if found.empty:
        st.info(f"No token of {scope} went to expert {expert} in {layers}.")
        return
    found = found if number is None else shown.with_number(found)
    _steps(chosen, found, (shown.number, -1 if row is None else row))
    ordered = found if order == "in the text" else found.sort_values(["weight", "rank"], ascending=[False, True])
    _table(chosen, ordered, f"expert_{expert}_tokens")


def _steps(chosen: controls.Chosen, found: pd.DataFrame, here: tuple[int, int]) -> None:
    """Buttons to the previous and the next of the found tokens, from the one that is looked at."""
    places = sorted({(int(number), int(row)) for number, row in zip(found["document"], found["row"], strict=True)})
    ways = {
        "Previous": max((place for place in places if place < here), default=None),
        "Next": min((place for place in places if place > here), default=None),
    }
    n, shown = int(found["n"].iloc[0]), len(found)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for name, place in ways.items():
            icon = f":material/{'arrow_back' if name == 'Previous' else 'arrow_forward'}:"
            st.button(
                name,
                key=f"found_{name.lower()}",
                icon=icon,
                disabled=place is None,
                on_click=documents.go_to,
                args=(*(place or here), chosen),
            )
        few = f", of which the {shown:,} with the largest weight" if n > shown else ""
        st.caption(f"n = {n:,} choices of this expert{few}. Click a row to see its token in the text.")


def _table(chosen: controls.Chosen, found: pd.DataFrame, name: str) -> None:
    st.dataframe(
        charts.visible(found[_COLUMNS]),
        hide_index=True,
        height=280,
        key="found_table",
        on_select=partial(_clicked, chosen, found),
        selection_mode="single-row",
    )
    charts.csv_button(found, "found", name)


def _clicked(chosen: controls.Chosen, found: pd.DataFrame) -> None:
    event: Any = st.session_state["found_table"]
    for place in event["selection"]["rows"]:
        own = found[["document", "row"]].iloc[place]
        documents.go_to(int(own["document"]), int(own["row"]), chosen)
