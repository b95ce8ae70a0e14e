"""How much each expert is used: `expert_load`, `expert_load_map`, `expert_load_groups`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import by_layer, expert_bars, expert_panels, group_subtitle, layers_title
from mixtral_probe.figures.cells import LAYER_EXPERT, cell_map, group_expert
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def expert_load(
    table: pd.DataFrame, *, metric: str = "share", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Draw how much each expert is used: bars with 95 % whiskers and the line of even use, at one layer or at each.

    Args:
        table: `tables.expert_load`.
        metric: one of its metrics.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    rows = rows_of(table, metric, group, layer=layer)
    quantity, colors = metric_of(metric), expert_colors(int(rows["expert"].max()) + 1)
    figure, height = expert_panels(rows, quantity)
    for panel, part in by_layer(rows):
        color = [colors[expert] for expert in part["expert"].to_numpy(np.int64)]
        figure.add_trace(expert_bars(part, quantity, name="share", showlegend=False, marker_color=color), **panel)
    return finish(figure, layers_title("Expert load", rows, layer), group_subtitle(rows, group), height=height)


@of_table
def expert_load_map(table: pd.DataFrame, *, metric: str = "share", group: str = "all") -> go.Figure:
    """Draw layer × expert load, coloured by its distance from even use: a navigator.

    Over every cell lies an invisible square marker with customdata [layer, expert], so that clicks and box selection
    name cells.

    Args:
        table: `tables.expert_load`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    rows = rows_of(table, metric, group)
    return cell_map(rows, metric, LAYER_EXPERT, "Load by layer and expert", centred=True)


@of_table
def expert_load_groups(table: pd.DataFrame, *, metric: str = "share", layer: int | None = None) -> go.Figure:
    """Draw group × expert load (domains, say), one panel per layer, coloured by the distance from even use.

    Args:
        table: `tables.expert_load` of statistics by a label.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer.
    """
    rows = rows_of(table, metric, layer=layer)
    return cell_map(rows, metric, group_expert(layer), "Load by group and expert", centred=True)
