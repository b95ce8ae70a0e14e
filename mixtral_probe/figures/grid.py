"""Small multiples, one panel per layer, group or metric; and grids with a row per layer."""

from collections.abc import Sequence, Sized

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mixtral_probe.figures.words import label, ticks

HEAD, FOOT = 104, 56
"""Pixels above and below the panels."""


def panels(
    titles: Sequence[str], *, columns: int, panel_height: int, share: bool = True, gap: int = 44
) -> tuple[go.Figure, int]:
    """Return an empty figure with one titled panel each, row by row, and its height in pixels.

    Args:
        titles: one per panel; a single panel stays untitled.
        columns: at most this many panels side by side.
        panel_height: pixels.
        share: whether all panels have the same axes.
        gap: pixels between two rows, for the titles of panels and axes.
    """
    across = min(columns, len(titles))
    down = -(-len(titles) // across)
    inner = down * panel_height + (down - 1) * gap
    figure = make_subplots(
        rows=down,
        cols=across,
        shared_xaxes="all" if share else False,
        shared_yaxes="all" if share else False,
        horizontal_spacing=(0.02 if share else 0.07) if across > 1 else 0,
        vertical_spacing=gap / inner if down > 1 else 0,
        subplot_titles=[label(title) for title in titles] if len(titles) > 1 else None,
    )
    figure.update_annotations(font={"size": 12}, yshift=2)
    return figure, inner + HEAD + FOOT + (18 if len(titles) > 1 else 0)


def place(number: int, titles: Sized, columns: int) -> dict[str, int]:
    """Return row and column, from 1, of a panel."""
    across = min(columns, len(titles))
    return {"row": number // across + 1, "col": number % across + 1}


def layer_grid(rows: pd.DataFrame, layers: Sequence[int], column: np.ndarray, width: int) -> np.ndarray:
    """[layers, width] the estimates of `rows_of`, each in the row of its layer; NaN where there is none.

    Args:
        rows: one per cell at most.
        layers: of the grid's rows.
        column: [rows] of each.
        width: columns of the grid.
    """
    z = np.full((len(layers), width), np.nan)
    row = rows["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    z[row, column] = rows["estimate"].to_numpy(float)
    return z


def layer_rows(figure: go.Figure, layers: Sequence[int]) -> None:
    """Name the rows of a grid after their layers, the first on top."""
    places, texts = ticks(layers)
    figure.update_yaxes(title_text="layer", tickvals=places, ticktext=texts, autorange="reversed", showgrid=False)
