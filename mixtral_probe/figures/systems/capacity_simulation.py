"""What experts of limited capacity drop: `capacity_simulation`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.systems.simulated import layer_name, of_layer, simulated_lines
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def capacity_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw the share of choices that experts of limited capacity drop, by the factor, and its nulls.

    Args:
        table: `tables.capacity_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    rows, quantity = of_layer(rows_of(table, "dropped_share", group), layer), metric_of("dropped_share")
    rows, key = rows[rows["bin"].isna().to_numpy(bool)], "capacity_factor"
    figure = go.Figure(simulated_lines(rows, key, (key,), name="as it is"))
    figure.update_xaxes(title_text="capacity factor", showgrid=False, tickvals=np.unique(rows[key].to_numpy(float)))
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Dropped choices, {layer_name(layer)}", group_subtitle(rows, group), height=400)
