"""What edits and a placebo changed in the routing: `what_if`, `what_if_experts`."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import bars
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

RUN_COLORS = {"without": "#808b96", "edited": "#2172b0", "placebo": "#f3a209"}
"""The runs in the order they are drawn, and their colours."""


@of_table
def what_if(table: pd.DataFrame) -> go.Figure:
    """Draw the tokens with another set of experts, layer by layer: with the edits, and the range of the placebo.

    Args:
        table: `tables.what_if`.

    Raises:
        InputError: the table holds none.
    """
    rows, quantity = rows_of(table, "rerouted"), metric_of("rerouted")
    rows = rows[rows["layer"].notna()]
    figure = go.Figure()
    for run, part in rows.groupby("run", sort=False):
        style = {"name": str(run), "marker_color": RUN_COLORS[str(run)]}
        drawn = bars(part, "layer", hover(part, ("run", "layer"), quantity), **style)
        figure.add_trace(drawn.update(error_y=band_whiskers(part, "estimate")) if run == "placebo" else drawn)
    _axes(figure, rows, "layer", quantity.label, bargap=0.3)
    return finish(figure, "Tokens sent to other experts", _note(rows), height=HEAD + FOOT + 240)


@of_table
def what_if_experts(table: pd.DataFrame, *, layer: int) -> go.Figure:
    """Draw how much each expert of a layer is used without the edits, with them, and with the placebo.

    Args:
        table: `tables.what_if`.
        layer: one of its layers.

    Raises:
        InputError: the table lacks the layer.
    """
    rows = rows_of(table, "share", layer=layer)
    edited = rows[rows["run"] == "edited"]
    runs = {"without": edited.assign(estimate=edited["null"])}
    runs |= {str(run): part for run, part in rows.groupby("run", sort=False)}
    figure = go.Figure()
    for name, part in runs.items():
        expert, share = part["expert"].to_numpy(np.int64), part["estimate"].to_numpy(float)
        template = f"expert %{{x}}, {name}: %{{y:.1%}}<extra></extra>"
        bar = go.Bar(x=expert, y=share, name=name, marker_color=RUN_COLORS[name], hovertemplate=template)
        figure.add_trace(bar.update(error_y=band_whiskers(part, "estimate")) if name == "placebo" else bar)
    _axes(figure, rows, "expert", metric_of("share").label, bargap=0.25)
    return finish(figure, f"Use of the experts of layer {layer}", _note(edited), height=HEAD + FOOT + 240)


def band_whiskers(part: pd.DataFrame, value: str) -> dict[str, Any]:
    """Return the range of a placebo's draws about the column `value` as plotly's error bars; none without a range.

    Tables that an earlier version wrote have no range.
    """
    ends = [part.get(name, np.nan) for name in ("placebo_low", "placebo_high")]
    low, high = (np.asarray(end * np.ones(len(part)), float) for end in ends)
    middle = part[value].to_numpy(float)
    return {"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low}


def _axes(figure: go.Figure, rows: pd.DataFrame, key: str, name: str, *, bargap: float) -> None:
    """Set the runs side by side at each value of a key."""
    figure.update_layout(barmode="group", bargap=bargap, showlegend=True)
    figure.update_xaxes(title_text=key, dtick=1 if rows[key].nunique() <= 16 else None, showgrid=False)
    figure.update_yaxes(title_text=name, tickformat=".0%", rangemode="tozero")


def _note(rows: pd.DataFrame) -> str:
    """Return scope and n, without the sentences of the edits, which are long and differ from run to run."""
    runs = ("edited: ", "placebo: ")
    plain = ["; ".join(part for part in str(scope).split("; ") if not part.startswith(runs)) for scope in rows["scope"]]
    return subtitle(rows.assign(scope=plain))
