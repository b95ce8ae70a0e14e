"""How a quantity is spread over tokens: `router_confidence_histogram`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of, subtitle, words_of


def router_confidence_histogram(
    table: pd.DataFrame, *, metric: str = "selection_margin", group: str = "all"
) -> go.Figure:
    """Layer × value: the share of the layer's tokens in each bin; the first and last bin also hold what lies beyond.

    Args:
        table: `tables.router_confidence_histogram`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    shown = rows_of(table, metric, group)
    shown = shown[shown["value"].notna()]
    layers = sorted(int(layer) for layer in shown["layer"].unique())
    first, last = (int(shown["bin"].min()), int(shown["bin"].max())) if len(shown) else (0, 0)
    z = np.full((len(layers), last - first + 1), np.nan)
    row = shown["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    z[row, shown["bin"].to_numpy(np.int64) - first] = shown["value"].to_numpy(float)
    words = words_of(metric)
    heat = go.Heatmap(
        x=_middles(shown, first, last),
        y=np.arange(len(layers)),
        z=z,
        coloraxis="coloraxis",
        ygap=1,
        hovertemplate=f"layer %{{y}}<br>{label(words.name)} about %{{x:.3f}}<br>%{{z:.2%}} of tokens<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        coloraxis={"colorbar": {"title": {"text": "share of tokens", "side": "right"}, "tickformat": ".0%"}, "cmin": 0}
    )
    figure.update_xaxes(title_text=words.name, showgrid=False)
    step = max(1, -(-len(layers) // 16))
    figure.update_yaxes(
        title_text="layer",
        tickvals=np.arange(0, len(layers), step),
        ticktext=[str(layer) for layer in layers[::step]],
        autorange="reversed",
        showgrid=False,
    )
    height = 180 + max(140, 18 * len(layers))
    title = f"Spread over tokens: {words.name}"
    return finish(figure, title, subtitle(shown), height=height, roles={"coloraxis": "root"})


def _middles(shown: pd.DataFrame, first: int, last: int) -> np.ndarray:
    """[bins] the middle of every bin from the first to the last that holds something."""
    if shown.empty:
        return np.zeros(1)
    one = shown.iloc[0]
    width = one["right"] - one["left"]
    start = one["left"] - (int(one["bin"]) - first) * width
    return start + width * (np.arange(last - first + 1) + 0.5)
