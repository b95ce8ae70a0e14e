"""Where the time of a forward pass went, layer by layer: `timing`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, rows_of, subtitle, words_of

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


def timing(table: pd.DataFrame, *, metric: str = "time_share") -> go.Figure:
    """A bar for each layer and one for what belongs to none, stacked of its parts.

    Args:
        table: `tables.timing`.
        metric: "time_share", whose parts add up exactly, or "milliseconds", medians each for itself.

    Raises:
        InputError: the table lacks that metric.
    """
    shown = _stacked(rows_of(table, metric))
    layers = sorted(shown["layer"].dropna().astype(int).unique())
    words, at = words_of(metric), {layer: number for number, layer in enumerate(layers)}
    figure = go.Figure()
    for part, color in PARTS.items():
        own = shown[(shown["part"] == part).to_numpy(dtype=bool)]
        figure.add_trace(
            go.Bar(
                x=own["value"].to_numpy(float),
                y=np.array([len(layers) if pd.isna(layer) else at[int(layer)] for layer in own["layer"]]),
                orientation="h",
                marker={"color": color},
                name=part,
                hovertext=hover(own, ("part", "layer"), words),
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=len(own) > 0,
            )
        )
    texts = [f"layer {layer}" for layer in layers] + [OUTSIDE]
    figure.update_layout(barmode="stack", bargap=0.25, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text=words.name, tickformat=words.format if "%" in words.format else None)
    figure.update_yaxes(tickvals=np.arange(len(texts)), ticktext=texts, range=[len(texts) - 0.4, -0.6], showgrid=False)
    height = HEAD + FOOT + max(120, 24 * len(texts))
    return finish(figure, "Time of the forward pass", subtitle(shown), height=height)


def _stacked(rows: pd.DataFrame) -> pd.DataFrame:
    """The parts of every layer, and the sites that lie in none; together they are the whole pass once."""
    whole_part = rows["layer"].notna() & rows["site"].isna() & (rows["part"] != "whole")
    outside = rows["layer"].isna() & rows["site"].notna()
    return rows[(whole_part | outside).to_numpy(dtype=bool)]
