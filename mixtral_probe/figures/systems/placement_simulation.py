"""How evenly devices are loaded: `placement_simulation`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.color import PALETTE
from mixtral_probe.figures.lines import line, null_line
from mixtral_probe.figures.systems.simulated import layer_name, of_layer
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of

PLACEMENT = {
    "rank_imbalance": "in their order",
    "rank_imbalance_eplb": "by EPLB",
    "rank_imbalance_eplb_crossval": "by EPLB, on the other half",
}
"""The metrics drawn, and what their placements are called in the legend."""


def placement_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw load of the busiest device over the mean, by the number of devices: without replicas, a line per placement.

    Args:
        table: `tables.placement_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    first = of_layer(rows_of(table, "rank_imbalance", group), layer)
    figure = go.Figure(null_line(first, "ranks", metric_of("rank_imbalance").null))
    parts = []
    for (metric, name), color in zip(PLACEMENT.items(), PALETTE, strict=False):
        part = of_layer(rows_of(table, metric, group, replicas=first["replicas"].min()), layer)
        figure.add_trace(line(part, "ranks", ("ranks", "replicas"), metric_of(metric), color=color, name=name))
        parts.append(part)
    figure.update_xaxes(title_text="devices", showgrid=False, tickvals=np.unique(first["ranks"].to_numpy(float)))
    figure.update_yaxes(title_text="busiest device / mean")
    about = group_subtitle(pd.concat(parts), group)
    return finish(figure, f"Load of devices, {layer_name(layer)}", about, height=400)
