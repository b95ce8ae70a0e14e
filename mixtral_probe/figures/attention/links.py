"""The links of one head as cells of a grid, and as places to click."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.attention.attention_map import EXACT_SIDE, root_bytes
from mixtral_probe.figures.theme import SELECTED
from mixtral_probe.figures.words import LABELLED, label
from mixtral_probe.tables.registry import metric_of

_MARKERS = 8_000
"""Clickable places of a map: more would make the page slow."""
_SHORT = 10
"""Characters of a token in hover."""


class Links:
    """The links of one head: rows of `tables.attention_weights` with a step."""

    def __init__(self, table: pd.DataFrame, step: int) -> None:
        self.table, self.step = table, step
        self.query, self.key = (table[name].to_numpy(np.int64) for name in ("query", "position"))
        self.weight = table["value"].to_numpy(float)
        self.top, self.left = int(self.query.min()) // step, int(self.key.min()) // step
        texts = table.drop_duplicates("position").set_index("position")["token"]
        self.texts = {int(key): label(str(text)[:_SHORT]) for key, text in texts.items() if pd.notna(text)}

    def cells(self, rooted: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return z [rows, columns], and the middle of each column and of each row."""
        row, column = self.query // self.step - self.top, self.key // self.step - self.left
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        if rooted or max(shape) > EXACT_SIDE:
            z = np.zeros(shape, np.uint8)
            z[row, column] = root_bytes(self.weight)
        else:
            z = np.full(shape, np.nan, np.float32)
            z[row, column] = self.weight
        middle = (self.step - 1) / 2
        x = (self.left + np.arange(shape[1])) * self.step + middle
        return z, x, (self.top + np.arange(shape[0])) * self.step + middle

    def markers(self) -> go.Scatter:
        """Return invisible places to click: each the strongest link of a square."""
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
        """Return the rows of the table that are offered, and the side of the square each stands for."""
        size = self.step
        while True:
            square = (self.query // size) * 2**32 + self.key // size
            order = np.lexsort((-self.weight, square))
            first = order[np.diff(square[order], prepend=-1) != 0]
            if len(first) <= _MARKERS:
                return first, size
            size += self.step

    def _hover(self, chosen: np.ndarray) -> np.ndarray:
        quantity, columns = metric_of("attention_weight"), ("query", "position", "value", "null", "experts")
        rows = zip(*(self.table[name].to_numpy(object)[chosen] for name in columns), strict=True)
        return np.array(
            [
                f"“{self.texts.get(query, query)}” → “{self.texts.get(key, key)}” <b>{quantity.text(weight)}</b>"
                f"<br>query {query}, key {key}<br>{quantity.null} {quantity.text(null)}<br>experts of the key {experts}"
                for query, key, weight, null, experts in rows
            ],
            dtype=object,
        )

    def axes(self, figure: go.Figure) -> None:
        """Name the axes by positions, or by the tokens' texts where they are few."""
        figure.update_xaxes(title_text="position looked at", showgrid=False)
        figure.update_yaxes(title_text="query position", showgrid=False, autorange="reversed")
        for update, places in ((figure.update_xaxes, self.key), (figure.update_yaxes, self.query)):
            named = [place for place in np.unique(places).tolist() if place in self.texts]
            if self.step == 1 and 0 < len(named) <= LABELLED:
                update(tickvals=named, ticktext=[self.texts[place] for place in named])
        figure.update_xaxes(tickangle=-60 if len(np.unique(self.key)) <= LABELLED and self.texts else 0)
