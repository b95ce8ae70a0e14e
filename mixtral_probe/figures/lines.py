"""One quantity along another: a line per layer, group or policy, and the dotted line of its null."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.theme import REFERENCE
from mixtral_probe.figures.words import hover
from mixtral_probe.tables.registry import Metric

DOTTED = {"color": REFERENCE, "dash": "dot", "width": 1.8}
"""The line of a null."""
DASHED = DOTTED | {"dash": "dash"}
"""The line of a second reference: a balanced value, or a second null."""


def line(
    part: pd.DataFrame,
    x: str,
    keys: Sequence[str],
    quantity: Metric,
    *,
    color: str,
    name: str,
    legend: bool = True,
    **more: Any,
) -> go.Scatter:
    """Return a line through the rows of `rows_of` with their intervals, along the column `x`; hover names `keys`."""
    style = {"marker": {"size": 5}, "legendgroup": name} | more
    return go.Scatter(
        x=part[x].to_numpy(float),
        y=part["estimate"].to_numpy(float),
        error_y=whiskers(part),
        mode="lines+markers",
        line={"color": color, "width": 2},
        name=name,
        showlegend=legend,
        **hover(part, keys, quantity),
        **style,
    )


def reference_lines(part: pd.DataFrame, x: str, quantity: Metric, *, legend: bool = True) -> list[go.Scatter]:
    """Return what each row is set against along the column `x`, chance dotted; one that all rows lack is left out."""
    names = quantity.references(part.columns)
    return [
        null_line(part, x, name, legend=legend, column=column)
        for column, name in names.items()
        if len(names) == 1 or part[column].notna().any()
    ]


def null_line(part: pd.DataFrame, x: str, name: str, *, legend: bool = True, column: str = "null") -> go.Scatter:
    """Return the null of each row along the column `x`, dotted, or the values of another column, dashed."""
    return go.Scatter(
        x=part[x].to_numpy(float),
        y=part[column].to_numpy(float),
        mode="lines",
        line=DOTTED if column == "null" else DASHED,
        name=name,
        legendgroup=column,
        showlegend=legend,
        hoverinfo="skip",
    )


def with_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are about one layer."""
    return table[table["layer"].notna().to_numpy(dtype=bool)]


def layers_of(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Return each layer, ascending, with its rows."""
    return [(layer, rows[(rows["layer"] == layer).to_numpy(dtype=bool)]) for layer in _ascending(rows["layer"])]


def _ascending(column: pd.Series) -> list[int]:
    return [int(value) for value in np.sort(column.dropna().unique().to_numpy(np.int64))]
