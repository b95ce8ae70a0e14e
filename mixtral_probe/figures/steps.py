"""Along the steps of training: `saturation`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.color import layer_colors
from mixtral_probe.figures.lines import layers_of, line, null_line, with_layer
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle, words_of


def saturation(table: pd.DataFrame, *, metric: str = "saturation", group: str = "all") -> go.Figure:
    """How far each step already chose the experts of the last: a line per layer, dark to light, and that of chance.

    Args:
        table: `tables.saturation`.
        metric: "saturation" or "saturation_first".
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    shown, words = with_layer(rows_of(table, metric, group)), words_of(metric)
    layers = layers_of(shown)
    figure = go.Figure(null_line(layers[0][1], "step", words.null))
    for (layer, own), color in zip(layers, layer_colors(len(layers)), strict=True):
        figure.add_trace(line(own, "step", ("step", "layer"), words, color=color, name=f"layer {layer}"))
    figure.update_xaxes(title_text="step of training", showgrid=False)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", range=[0, 1.03])
    return finish(figure, "Saturation over training", subtitle(shown), height=430)
