"""Along the steps of training: `saturation`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.color import layer_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.lines import layers_of, line, null_line, with_layer
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


@of_table
def saturation(table: pd.DataFrame, *, metric: str = "saturation", group: str = "all") -> go.Figure:
    """Draw how far each step already chose the experts of the last: a line per layer, dark to light, and chance.

    Args:
        table: `tables.saturation`.
        metric: "saturation" or "saturation_first".
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    rows, quantity = with_layer(rows_of(table, metric, group)), metric_of(metric)
    layers = layers_of(rows)
    figure = go.Figure(null_line(layers[0][1], "step", quantity.null))
    for (layer, part), color in zip(layers, layer_colors(len(layers)), strict=True):
        figure.add_trace(line(part, "step", ("step", "layer"), quantity, color=color, name=f"layer {layer}"))
    figure.update_xaxes(title_text="step of training", showgrid=False)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", range=[0, 1.03])
    return finish(figure, "Saturation over training", subtitle(rows), height=430)
