"""Small multiples: one panel per layer, group or metric."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mixtral_probe.figures.words import label

HEAD, FOOT = 104, 56
"""Pixels above and below the panels."""


def panels(
    titles: Sequence[str], *, columns: int, panel_height: int, share: bool = True, gap: int = 44
) -> tuple[go.Figure, int]:
    """An empty figure with one titled panel each, row by row, and its height in pixels.

    Args:
        titles: one per panel; a single panel stays untitled.
        columns: at most this many panels side by side.
        panel_height: pixels.
        gap: pixels between two rows, for the titles of panels and axes.
        share: whether all panels have the same axes.
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


def place(number: int, titles: Sequence[str], columns: int) -> dict[str, int]:
    """Row and column, from 1, of a panel."""
    across = min(columns, len(titles))
    return {"row": number // across + 1, "col": number % across + 1}
