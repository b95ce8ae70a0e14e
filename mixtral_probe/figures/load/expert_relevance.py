"""How much of a document each expert takes: `expert_relevance`, `expert_relevance_map`."""

from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import by_layer, expert_bars, expert_panels, group_subtitle, layers_title
from mixtral_probe.figures.cells import LAYER_EXPERT, LAYER_EXPERT_OF_GROUPS, cell_map
from mixtral_probe.figures.color import SERIES
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of

RELEVANCE = {"average_gate_score": "gate score", "token_selection_ratio": "selection ratio"}
"""The metrics drawn, and their names in the legend."""


@of_table
def expert_relevance(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw how much of a document each expert takes: its mean weight, its share of the choices, and even use.

    Args:
        table: `tables.expert_relevance`.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    scores = {metric: rows_of(table, metric, group, layer=layer) for metric in RELEVANCE}
    rows = pd.concat([part for part in scores.values() if part["value"].notna().any()] or list(scores.values()))
    figure, height = expert_panels(rows, replace(metric_of("average_gate_score"), label="mean of documents"))
    for metric, color in zip(rows["metric"].unique(), SERIES, strict=False):
        for number, (panel, part) in enumerate(by_layer(scores[metric])):
            style = {"name": RELEVANCE[metric], "legendgroup": metric, "showlegend": number == 0}
            figure.add_trace(expert_bars(part, metric_of(metric), marker_color=color, **style), **panel)
    figure.update_layout(barmode="group")
    return finish(figure, layers_title("Relevance of experts", rows, layer), group_subtitle(rows, group), height=height)


@of_table
def expert_relevance_map(
    table: pd.DataFrame, *, metric: str = "token_selection_ratio", group: str | None = "all"
) -> go.Figure:
    """Draw layer × expert: how much of a document an expert takes, coloured by its distance from even use.

    A navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.expert_relevance`.
        metric: "token_selection_ratio" or "average_gate_score".
        group: one of its groups; None for one panel per group.

    Raises:
        InputError: the table lacks that metric or group.
    """
    rows, layout = rows_of(table, metric, group), LAYER_EXPERT if group is not None else LAYER_EXPERT_OF_GROUPS
    return cell_map(rows, metric, layout, f"Relevance of experts: {metric_of(metric).label}", centred=True)
