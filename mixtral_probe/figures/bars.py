"""Bars with whiskers, and panels of them: one per layer, with the line of even use."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.theme import REFERENCE
from mixtral_probe.figures.words import group_note, hover, subtitle
from mixtral_probe.tables.registry import Metric

_COLUMNS = 4


def expert_panels(rows: pd.DataFrame, quantity: Metric) -> tuple[go.Figure, int]:
    """Return an empty panel per layer with its axes and its line of even use, and the height in pixels."""
    layers = rows["layer"].unique()
    single = len(layers) == 1
    figure, height = panels([f"layer {n}" for n in layers], columns=_COLUMNS, panel_height=320 if single else 130)
    figure.update_layout(bargap=0.22)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=6 if single else 4)
    figure.update_xaxes(showgrid=False, dtick=1 if rows["expert"].max() < 12 else None)
    across = min(_COLUMNS, len(layers))
    figure.update_xaxes(title_text="expert", row=-(-len(layers) // across))
    figure.update_yaxes(title_text=quantity.label, col=1)
    for number, (cell, part) in enumerate(by_layer(rows)):
        figure.add_trace(_even(part, quantity, showlegend=number == 0), **cell)
    return figure, height


def by_layer(rows: pd.DataFrame) -> list[tuple[dict[str, int], pd.DataFrame]]:
    """Return the row and column of each layer's panel, with the layer's rows."""
    parts = [part for _, part in rows.groupby("layer", sort=False)]
    return [(place(number, parts, _COLUMNS), part) for number, part in enumerate(parts)]


def _even(part: pd.DataFrame, quantity: Metric, *, showlegend: bool) -> go.Scatter:
    """Return the null of each expert as a dotted line, drawn half a bar further on both sides."""
    null = part.drop_duplicates("expert").sort_values("expert")
    ends = np.concatenate([[-0.5], null["expert"].to_numpy(float), [null["expert"].max() + 0.5]])
    return go.Scatter(
        x=ends,
        y=np.pad(null["null"].to_numpy(float), 1, mode="edge"),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.6},
        name=f"{quantity.null} ({quantity.text(null['null'].iloc[0])})",
        legendgroup="null",
        showlegend=showlegend,
        hoverinfo="skip",
    )


def expert_bars(part: pd.DataFrame, quantity: Metric, **more: Any) -> go.Bar:
    """Return a bar with its interval for each expert; `more` are arguments of the trace."""
    keys = [key for key in ("layer", "group", "expert", "rank") if key in part]
    return bars(part, "expert", hover(part, keys, quantity), **more)


def bars(part: pd.DataFrame, x: str, hovers: dict[str, Any], **more: Any) -> go.Bar:
    """Return a bar with its interval for each row of `rows_of`, at the integers of the column `x`."""
    return go.Bar(
        x=part[x].to_numpy(np.int64),
        y=part["estimate"].to_numpy(float),
        error_y=whiskers(part),
        **hovers,
        **more,
    )


def whiskers(part: pd.DataFrame) -> dict[str, Any]:
    """Return the interval of each row as plotly's error bars; where there is none, none is drawn."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (part["high"] - part["estimate"]).to_numpy(float),
        "arrayminus": (part["estimate"] - part["low"]).to_numpy(float),
    }


def layers_title(noun: str, rows: pd.DataFrame, layer: int | None) -> str:
    """Return the title of panels of one layer or of all."""
    return f"{noun}, layer {layer}" if layer is not None else f"{noun} in {rows['layer'].nunique()} layers"


def group_subtitle(rows: pd.DataFrame, group: str) -> str:
    """Return scope and n of the rows of a group."""
    return subtitle(rows, group_note(group))
