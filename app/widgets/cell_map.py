"""A map of layers and experts: a click chooses a cell, and a box narrows the field *Where*."""

import streamlit as st

from app.state import controls, where_field
from app.widgets import charts


def follow(view: controls.PageView, key: str) -> None:
    """Apply a new click or box on the `charts.brush` of this key, and run the page again."""
    cell, cells = charts.new_click(key), charts.new_box(key)
    if cell is not None:
        controls.set_on_next_run(layer=int(cell[0]), expert=int(cell[1]))
        st.rerun()
    if cells:
        layers, experts = (sorted({int(cell[side]) for cell in cells}) for side in (0, 1))
        layer = view.layer if view.layer in layers else layers[0]
        controls.set_on_next_run(where=where_field.with_box(layers, experts), layer=layer)
        st.rerun()


def explain() -> None:
    """Draw how the map is used, and the button that removes a box."""
    st.caption(
        "Click a cell to choose its layer and expert. Drag over several to look at these alone, on every page: "
        "`expert in 2..3` keeps every token that chose one of these experts, with its other choices."
    )
    where_field.draw_box_removal()
