"""One head's map that can be clicked, and several heads side by side: `attention_weights`, `attention_heads`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.attention.attention_map import MAX_SIDE, color_bar
from mixtral_probe.figures.attention.links import Links
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.theme import SELECTED, finish
from mixtral_probe.figures.words import label


@of_table
def attention_weights(
    table: pd.DataFrame, *, step: int = 1, query: int | None = None, position: int | None = None
) -> go.Figure:
    """Draw which position attends to which: row = query, column = key, both counted in the window; a navigator.

    Up to 256 positions a side the colours are exact, above they are kept in 8 bits of the root of the weight. Invisible
    markers with customdata [query, position] make clicks and box selection name links; where there are more than 8,000
    links, a marker stands for a square of several and names its strongest.

    Args:
        table: `tables.attention_weights` of one head, or of the mean of heads.
        step: of the table.
        query: a row to highlight.
        position: a column to highlight.

    Raises:
        InputError: the table is empty, holds several heads, or has more than 512 squares a side.
    """
    _check(table, step)
    links = Links(table, step)
    z, x, y = links.cells()
    exact = z.dtype != np.uint8
    heat = go.Heatmap(x=x, y=y, z=z, coloraxis="coloraxis", hoverinfo="skip")
    figure = go.Figure([heat, links.markers()])
    figure.update_layout(coloraxis=color_bar(root=not exact), clickmode="event+select", hoverdistance=-1)
    links.axes(figure)
    _highlight(figure, query, position, step)
    note = str(table["scope"].iloc[0]).split("; one token")[0].replace("; ", " · ")
    roles = {"coloraxis": "root" if exact else "root8"}
    return finish(figure, f"Attention of {_head_name(table)}", label(note), height=620, roles=roles)


@of_table
def attention_heads(table: pd.DataFrame, *, step: int = 1, columns: int = 4) -> go.Figure:
    """Draw the maps of several heads of one layer, side by side, in 8 bits of the root of the weight.

    Args:
        table: `tables.attention_weights` of each head, one below the other.
        step: of the tables.
        columns: at most so many side by side.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("maps of heads need a table of links, got an empty one")
    heads = sorted(int(head) for head in table["head"].unique())
    titles = [f"head {head}" for head in heads]
    figure, height = panels(titles, columns=columns, panel_height=170)
    for number, head in enumerate(heads):
        z, x, y = Links(table[(table["head"] == head).to_numpy(dtype=bool)], step).cells(rooted=True)
        template = f"head {head}<br>query %{{y}}, key %{{x}}<extra></extra>"
        heat = go.Heatmap(x=x, y=y, z=z, coloraxis="coloraxis", hovertemplate=template)
        figure.add_trace(heat, **place(number, titles, columns))
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    figure.update_layout(coloraxis=color_bar(root=True))
    note = "row: query, column: the position looked at" + ("" if step == 1 else f" · strongest of {step} × {step}")
    title = f"All heads of layer {table['layer'].iloc[0]}"
    return finish(figure, title, note, height=height, roles={"coloraxis": "root8"})


def _check(table: pd.DataFrame, step: int) -> None:
    if table.empty:
        raise InputError("a map of attention needs a table of links, got an empty one")
    if (heads := table["head"].nunique(dropna=False)) > 1:
        raise InputError(f"a map must be of one head, got {heads}; use attention_heads")
    span = max(np.ptp(table[name].to_numpy(np.int64)) // step + 1 for name in ("query", "position"))
    if span > MAX_SIDE:
        raise InputError(
            f"a map must have at most {MAX_SIDE} squares a side, got {span}; make the table with a larger step"
        )


def _head_name(table: pd.DataFrame) -> str:
    head = table["head"].iloc[0]
    return f"layer {table['layer'].iloc[0]}, " + ("mean of heads" if pd.isna(head) else f"head {head}")


def _highlight(figure: go.Figure, query: int | None, position: int | None, step: int) -> None:
    """Frame the row of a query and the column of a position."""
    for place_, across, along in ((query, "y", "x"), (position, "x", "y")):
        if place_ is None:
            continue
        start = place_ // step * step - 0.5
        ends = {f"{along}0": 0, f"{along}1": 1, f"{across}0": start, f"{across}1": start + step}
        style = {"line": {"color": SELECTED, "width": 1.5}, f"{along}ref": f"{along} domain"}
        figure.add_shape(type="rect", **style, **ends)
