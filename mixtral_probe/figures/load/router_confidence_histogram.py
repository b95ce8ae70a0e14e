"""How a quantity is spread over tokens: `router_confidence_histogram`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import layer_grid, layer_rows
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


@of_table
def router_confidence_histogram(
    table: pd.DataFrame, *, metric: str = "selection_margin", group: str = "all"
) -> go.Figure:
    """Draw layer × value: the share of the layer's tokens in each bin; the ends also count what lies beyond.

    Args:
        table: `tables.router_confidence_histogram`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    rows, quantity = rows_of(table, metric, group), metric_of(metric)
    rows = rows[rows["value"].notna()]
    layers = sorted(int(layer) for layer in rows["layer"].unique())
    figure = go.Figure(_heat(rows, layers, quantity.label))
    bar = {"title": {"text": "share of tokens", "side": "right"}, "tickformat": ".0%"}
    figure.update_layout(coloraxis={"colorbar": bar, "cmin": 0})
    figure.update_xaxes(title_text=quantity.label, showgrid=False)
    layer_rows(figure, layers)
    height = 180 + max(140, 18 * len(layers))
    title = f"Spread over tokens: {quantity.label}"
    return finish(figure, title, subtitle(rows), height=height, roles={"coloraxis": "root"})


def _heat(rows: pd.DataFrame, layers: list[int], name: str) -> go.Heatmap:
    first, last = (int(rows["bin"].min()), int(rows["bin"].max())) if len(rows) else (0, 0)
    z = layer_grid(rows, layers, rows["bin"].to_numpy(np.int64) - first, last - first + 1)
    return go.Heatmap(
        x=_middles(rows, first, last),
        y=np.arange(len(layers)),
        z=z,
        # Named layers: the row's number is not the layer's where not all layers are mixtures.
        customdata=np.broadcast_to(np.array(layers, dtype=object)[:, None], z.shape),
        coloraxis="coloraxis",
        ygap=1,
        hovertemplate=f"layer %{{customdata}}<br>{label(name)} about %{{x:.3f}}<br>%{{z:.2%}} of tokens<extra></extra>",
    )


def _middles(rows: pd.DataFrame, first: int, last: int) -> np.ndarray:
    """[bins] the middle of every bin from the first to the last with a token."""
    if rows.empty:
        return np.zeros(1)
    row = rows.iloc[0]
    width = row["right"] - row["left"]
    start = row["left"] - (int(row["bin"]) - first) * width
    return start + width * (np.arange(last - first + 1) + 0.5)
