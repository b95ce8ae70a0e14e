"""How evenly devices are loaded: `placement_simulation`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.systems.simulated import layer_name, of_layer, simulated_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of

PLACEMENT = {
    "rank_imbalance": "in their order",
    "rank_imbalance_eplb": "by EPLB",
    "rank_imbalance_eplb_crossval": "by EPLB, on the other half",
}
"""The metrics drawn, and what their placements are called over their panels."""


@of_table
def placement_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw load of the busiest device over the mean, by the number of devices: without replicas, a panel per placement.

    Args:
        table: `tables.placement_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    first = of_layer(rows_of(table, "rank_imbalance", group), layer)
    parts = {
        name: of_layer(rows_of(table, metric, group, replicas=first["replicas"].min()), layer)
        for metric, name in PLACEMENT.items()
    }
    figure, height = simulated_panels(parts, "ranks", ("ranks", "replicas"), columns=3, panel_height=240)
    figure.update_xaxes(title_text="devices", showgrid=False, tickvals=np.unique(first["ranks"].to_numpy(float)))
    figure.update_yaxes(title_text="busiest device / mean", col=1)
    about = group_subtitle(pd.concat([*parts.values()]), group)
    return finish(figure, f"Load of devices, {layer_name(layer)}", about, height=height)
