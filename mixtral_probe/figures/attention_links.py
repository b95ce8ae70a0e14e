"""Figures of the table `attention_weights`: one head's map that can be clicked, and several heads side by side."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.attention import EXACT_SIDE, MAX_SIDE, color_bar
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.theme import SELECTED, finish
from mixtral_probe.figures.words import label, words_of

_MARKERS = 8_000
"""Clickable places of a map: more would make the page slow."""
_LABELLED = 40
_SHORT = 10
"""Characters of a token that hover shows."""


def attention_weights(
    table: pd.DataFrame, *, step: int = 1, query: int | None = None, position: int | None = None
) -> go.Figure:
    """Who looks at whom: row = query, column = the position looked at, both counted in the window; a navigator.

    Up to 256 positions a side the colours are exact, above they are kept in 8 bits of the root of the weight. Invisible
    markers with customdata [query, position] make clicks and box selection name links; where there are more than 8,000
    links, a marker stands for a square of several and names its strongest.

    Args:
        table: `tables.attention_weights` of one head, or of the mean of heads.
        step: with which the table was made.
        query: a row to highlight.
        position: a column to highlight.

    Raises:
        InputError: the table is empty, holds several heads, or has more than 512 squares a side.
    """
    _check(table, step)
    links = _Links(table, step)
    z, place_x, place_y = links.cells()
    exact = z.dtype != np.uint8
    heat = go.Heatmap(x=place_x, y=place_y, z=z, coloraxis="coloraxis", hoverinfo="skip")
    figure = go.Figure([heat, links.markers()])
    figure.update_layout(coloraxis=color_bar(root=not exact), clickmode="event+select", hoverdistance=-1)
    links.axes(figure)
    _highlight(figure, query, position, step)
    note = str(table["scope"].iloc[0]).split("; one token")[0].replace("; ", " · ")
    roles = {"coloraxis": "root" if exact else "root8"}
    return finish(figure, f"Attention of {_whose(table)}", label(note), height=620, roles=roles)


def attention_heads(table: pd.DataFrame, *, step: int = 1, columns: int = 4) -> go.Figure:
    """The maps of several heads of one layer, side by side, in 8 bits of the root of the weight.

    Args:
        table: `tables.attention_weights` of each head, one below the other.
        step: with which they were made.
        columns: at most so many side by side.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("maps of heads need a table of links, but it is empty")
    heads = sorted(int(head) for head in table["head"].unique())
    titles = [f"head {head}" for head in heads]
    figure, height = panels(titles, columns=columns, panel_height=170)
    for number, head in enumerate(heads):
        links = _Links(table[(table["head"] == head).to_numpy(dtype=bool)], step)
        z, x, y = links.cells(rooted=True)
        heat = go.Heatmap(
            x=x,
            y=y,
            z=z,
            coloraxis="coloraxis",
            hovertemplate=f"head {head}<br>query %{{y}}, key %{{x}}<extra></extra>",
        )
        figure.add_trace(heat, **place(number, titles, columns))
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    figure.update_layout(coloraxis=color_bar(root=True))
    note = "row: query, column: the position looked at" + ("" if step == 1 else f" · strongest of {step} × {step}")
    title = f"All heads of layer {table['layer'].iloc[0]}"
    return finish(figure, title, note, height=height, roles={"coloraxis": "root8"})


def _check(table: pd.DataFrame, step: int) -> None:
    if table.empty:
        raise InputError("a map of attention needs a table of links, but it is empty")
    if table["head"].nunique(dropna=False) > 1:
        raise InputError("a map shows one head, but the table holds several; use attention_heads")
    span = max(np.ptp(table[name].to_numpy(np.int64)) // step + 1 for name in ("query", "position"))
    if span > MAX_SIDE:
        raise InputError(
            f"a map shows at most {MAX_SIDE} squares a side, but these are {span}; make the table with a larger step"
        )


def _whose(table: pd.DataFrame) -> str:
    head = table["head"].iloc[0]
    return f"layer {table['layer'].iloc[0]}, " + ("mean of heads" if pd.isna(head) else f"head {head}")


class _Links:
    """The links of one head as cells of a grid."""

    def __init__(self, table: pd.DataFrame, step: int) -> None:
        self.table, self.step = table, step
        self.query, self.key = (table[name].to_numpy(np.int64) for name in ("query", "position"))
        self.value = table["value"].to_numpy(float)
        self.top, self.left = int(self.query.min()) // step, int(self.key.min()) // step
        texts = table.drop_duplicates("position").set_index("position")["token"]
        self.texts = {int(at): label(str(text)[:_SHORT]) for at, text in texts.items() if pd.notna(text)}

    def cells(self, rooted: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z [rows, columns], and the middle of each column and of each row."""
        row, column = self.query // self.step - self.top, self.key // self.step - self.left
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        if rooted or max(shape) > EXACT_SIDE:
            z = np.zeros(shape, np.uint8)
            z[row, column] = np.rint(255 * np.sqrt(np.clip(self.value, 0, 1)))
        else:
            z = np.full(shape, np.nan, np.float32)
            z[row, column] = self.value
        middle = (self.step - 1) / 2
        x = (self.left + np.arange(shape[1])) * self.step + middle
        return z, x, (self.top + np.arange(shape[0])) * self.step + middle

    def markers(self) -> go.Scatter:
        """Invisible places to click: each the strongest link of a square."""
        chosen, size = self._chosen()
        middle = (size - 1) / 2
        row, column = self.query[chosen] // size * size + middle, self.key[chosen] // size * size + middle
        return go.Scatter(
            x=column,
            y=row,
            mode="markers",
            marker={"symbol": "square-open", "size": 9, "opacity": 0, "color": SELECTED, "line": {"width": 2}},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            # Plain lists: typed arrays come back from a click as dictionaries.
            customdata=np.column_stack([self.query, self.key])[chosen].astype(object),
            hovertext=self._hover(chosen),
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )

    def _chosen(self) -> tuple[np.ndarray, int]:
        """The rows of the table that are offered, and the side of the square each stands for."""
        size = self.step
        while True:
            square = (self.query // size) * 2**32 + self.key // size
            order = np.lexsort((-self.value, square))
            first = order[np.diff(square[order], prepend=-1) != 0]
            if len(first) <= _MARKERS:
                return first, size
            size += self.step

    def _hover(self, chosen: np.ndarray) -> np.ndarray:
        words = words_of("attention_weight")
        rows = zip(
            *(self.table[name].to_numpy(object)[chosen] for name in ("query", "position", "value", "null", "experts")),
            strict=True,
        )
        return np.array(
            [
                f"“{self.texts.get(query, query)}” → “{self.texts.get(key, key)}” <b>{words.text(value)}</b>"
                f"<br>query {query}, key {key}<br>{words.null} {words.text(null)}<br>experts of the key {experts}"
                for query, key, value, null, experts in rows
            ],
            dtype=object,
        )

    def axes(self, figure: go.Figure) -> None:
        """Positions, or the tokens' texts where they are few."""
        figure.update_xaxes(title_text="position looked at", showgrid=False)
        figure.update_yaxes(title_text="query position", showgrid=False, autorange="reversed")
        for update, places in ((figure.update_xaxes, self.key), (figure.update_yaxes, self.query)):
            shown = [at for at in np.unique(places).tolist() if at in self.texts]
            if self.step == 1 and 0 < len(shown) <= _LABELLED:
                update(tickvals=shown, ticktext=[self.texts[at] for at in shown])
        figure.update_xaxes(tickangle=-60 if len(np.unique(self.key)) <= _LABELLED and self.texts else 0)


def _highlight(figure: go.Figure, query: int | None, position: int | None, step: int) -> None:
    """Frame a row and a column."""
    line = {"color": SELECTED, "width": 1.5}
    for at, spans in ((query, "x"), (position, "y")):
        if at is None:
            continue
        start = at // step * step - 0.5
        across, along = ("y", "x") if spans == "x" else ("x", "y")
        figure.add_shape(
            type="rect",
            line=line,
            **{
                f"{along}ref": f"{along} domain",
                f"{along}0": 0,
                f"{along}1": 1,
                f"{across}0": start,
                f"{across}1": start + step,
            },
        )
