"""One quantity along another, a line per layer or policy: the common part of `steps` and `systems`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.theme import REFERENCE
from mixtral_probe.figures.words import Words, hover


def line(
    part: pd.DataFrame, x: str, keys: Sequence[str], words: Words, *, color: str, name: str, legend: bool = True
) -> go.Scatter:
    """Values with intervals along the column `x`; hover tells `keys`."""
    return go.Scatter(
        x=part[x].to_numpy(float),
        y=part["value"].to_numpy(float),
        error_y=whiskers(part),
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": 5},
        hovertext=hover(part, keys, words),
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        legendgroup=name,
        showlegend=legend,
    )


def null_line(part: pd.DataFrame, x: str, name: str, *, legend: bool = True) -> go.Scatter:
    """The null of each row along the column `x`, dotted."""
    return go.Scatter(
        x=part[x].to_numpy(float),
        y=part["null"].to_numpy(float),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.8},
        name=name,
        legendgroup="null",
        showlegend=legend,
        hoverinfo="skip",
    )


def with_layer(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are about one layer."""
    return table[table["layer"].notna().to_numpy(dtype=bool)]


def of_all_layers(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are about all layers."""
    return table[table["layer"].isna().to_numpy(dtype=bool)]


def layers_of(shown: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Each layer, ascending, with its rows."""
    return [(layer, shown[(shown["layer"] == layer).to_numpy(dtype=bool)]) for layer in _ascending(shown["layer"])]


def _ascending(column: pd.Series) -> list[int]:
    return [int(value) for value in np.sort(column.dropna().unique().to_numpy(np.int64))]
