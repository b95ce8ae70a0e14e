"""How a quantity is spread over tokens: `router_confidence_histogram`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of, subtitle, ticks, words_of


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
    shown, words = shown[shown["value"].notna()], words_of(metric)
    layers = sorted(int(layer) for layer in shown["layer"].unique())
    figure = go.Figure(_heat(shown, layers, words.name))
    bar = {"title": {"text": "share of tokens", "side": "right"}, "tickformat": ".0%"}
    figure.update_layout(coloraxis={"colorbar": bar, "cmin": 0})
    figure.update_xaxes(title_text=words.name, showgrid=False)
    places, texts = ticks(layers)
    figure.update_yaxes(title_text="layer", tickvals=places, ticktext=texts, autorange="reversed", showgrid=False)
    height = 180 + max(140, 18 * len(layers))
    title = f"Spread over tokens: {words.name}"
    return finish(figure, title, subtitle(shown), height=height, roles={"coloraxis": "root"})


def _heat(shown: pd.DataFrame, layers: list[int], name: str) -> go.Heatmap:
    first, last = (int(shown["bin"].min()), int(shown["bin"].max())) if len(shown) else (0, 0)
    z = np.full((len(layers), last - first + 1), np.nan)
    row = shown["layer"].map({layer: number for number, layer in enumerate(layers)}).to_numpy(np.int64)
    z[row, shown["bin"].to_numpy(np.int64) - first] = shown["value"].to_numpy(float)
    # Named layers: the row's number is not the layer's where not all layers are mixtures.
    rows = np.broadcast_to(np.array(layers, dtype=object)[:, None], z.shape)
    return go.Heatmap(
        x=_middles(shown, first, last),
        y=np.arange(len(layers)),
        z=z,
        customdata=rows,
        coloraxis="coloraxis",
        ygap=1,
        hovertemplate=f"layer %{{customdata}}<br>{label(name)} about %{{x:.3f}}<br>%{{z:.2%}} of tokens<extra></extra>",
    )


def _middles(shown: pd.DataFrame, first: int, last: int) -> np.ndarray:
    """[bins] the middle of every bin from the first to the last that holds something."""
    if shown.empty:
        return np.zeros(1)
    one = shown.iloc[0]
    width = one["right"] - one["left"]
    start = one["left"] - (int(one["bin"]) - first) * width
    return start + width * (np.arange(last - first + 1) + 0.5)
