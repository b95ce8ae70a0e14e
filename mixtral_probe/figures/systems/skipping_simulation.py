"""What tokens would do without their last expert: `skipping_simulation`, `weight_ratio`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.lines import layers_of, line, null_line, with_layer
from mixtral_probe.figures.systems.simulated import layer_name, of_layer
from mixtral_probe.figures.theme import ACCENT, FAINT, finish
from mixtral_probe.figures.words import rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


@of_table
def skipping_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw the share of tokens that would do without their last expert, by the threshold; each layer thin behind.

    Args:
        table: `tables.skipping_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    rows, quantity = rows_of(table, "skipped_share", group), metric_of("skipped_share")
    main, keys = of_layer(rows, layer), ("layer", "threshold")
    figure = go.Figure()
    for number, (_, part) in enumerate(layers_of(with_layer(rows))):
        behind = line(part, "threshold", keys, quantity, color=FAINT, name="each layer", legend=number == 0)
        figure.add_trace(behind.update(mode="lines", line={"width": 1}, error_y={"visible": False}))
    figure.add_trace(null_line(main, "threshold", quantity.null))
    name = "all layers together" if layer is None else f"layer {layer}"
    figure.add_trace(line(main, "threshold", keys[layer is None :], quantity, color=ACCENT, name=name))
    thresholds = np.unique(main["threshold"].to_numpy(float))
    figure.update_xaxes(title_text="threshold: last weight / first", showgrid=False, tickvals=thresholds)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Skipped experts, {layer_name(layer)}", group_subtitle(main, group), height=400)


@of_table
def weight_ratio(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Draw how much a token's last choice weighs against its first, layer by layer, and the line of logits all alike.

    Args:
        table: `tables.skipping_simulation`.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks the group.
    """
    each = with_layer(table)
    figure, height = metric_panels(each, ("weight_ratio",), group, columns=1)
    figure.update_yaxes(range=[0, 1.03])
    about = subtitle(rows_of(each, "weight_ratio", group), others_behind(each, group))
    return finish(figure, "Weight of the last choice against the first", about, height=height)
