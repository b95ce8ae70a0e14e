"""Where the time of a forward pass went: `timing`, `timing_experts`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, percent_format, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

PARTS = {
    "attention": "#2172b0",
    "router": "#f3a209",
    "experts": "#29a587",
    "dispatch": "#c80e04",
    "norms": "#41c2d7",
    "head": "#ba6efa",
    "embedding": "#d17620",
    "other": "#808b96",
}
"""The parts of a forward pass in the order they are stacked, and their colours."""
OUTSIDE = "no layer"
"""The name of the bar of what belongs to no layer."""


@of_table
def timing(table: pd.DataFrame, *, metric: str = "time_share") -> go.Figure:
    """Draw a bar for each layer and one for what belongs to none, stacked of its parts.

    Args:
        table: `tables.timing`.
        metric: "time_share", whose parts add up exactly, or "milliseconds", medians each for itself.

    Raises:
        InputError: the table lacks that metric.
    """
    rows, quantity = _stacked(rows_of(table, metric)), metric_of(metric)
    layers = sorted(rows["layer"].dropna().astype(int).unique())
    bar_of, figure = {layer: number for number, layer in enumerate(layers)}, go.Figure()
    for name, color in PARTS.items():
        part = rows[(rows["part"] == name).to_numpy(dtype=bool)]
        bars = go.Bar(
            x=part["estimate"].to_numpy(float),
            y=np.array([len(layers) if pd.isna(layer) else bar_of[int(layer)] for layer in part["layer"]]),
            orientation="h",
            marker={"color": color},
            name=name,
            showlegend=len(part) > 0,
            **hover(part, ("part", "layer"), quantity),
        )
        figure.add_trace(bars)
    texts = [f"layer {layer}" for layer in layers] + [OUTSIDE]
    figure.update_layout(barmode="stack", bargap=0.25, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text=quantity.label, tickformat=percent_format(quantity))
    figure.update_yaxes(tickvals=np.arange(len(texts)), ticktext=texts, range=[len(texts) - 0.4, -0.6], showgrid=False)
    height = HEAD + FOOT + max(120, 24 * len(texts))
    return finish(figure, "Time of the forward pass", subtitle(rows), height=height)


@of_table
def timing_experts(table: pd.DataFrame, *, metric: str = "microseconds_per_row") -> go.Figure:
    """Draw layer × expert time or size of the batch, a navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.timing`.
        metric: one of its metrics that experts have, such as "milliseconds", "rows" or "peak_bytes".

    Raises:
        InputError: no expert has that metric.
    """
    experts = table[table["expert"].notna()].assign(group="all")
    title = f"Experts: {metric_of(metric).label}"
    return cell_map(rows_of(experts, metric), metric, LAYER_EXPERT, title, centred=False)


def _stacked(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of every layer, and the sites that lie in none; together they are the whole pass once."""
    whole_part = rows["layer"].notna() & rows["site"].isna() & (rows["part"] != "whole")
    outside = rows["layer"].isna() & rows["site"].notna()
    return rows[(whole_part | outside).to_numpy(dtype=bool)]
