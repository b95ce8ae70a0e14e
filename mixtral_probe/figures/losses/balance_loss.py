"""The variants of the balance loss side by side: `balance_loss`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.layer_panels import layer_axis, layer_traces
from mixtral_probe.figures.lines import DASHED, DOTTED
from mixtral_probe.figures.theme import ACCENT, finish
from mixtral_probe.figures.words import hover, label, names_of, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

_OVER = ("load_balancing_loss_mean", "load_balancing_loss_pooled", "router_z_loss")
_LOSSES = ("load_balancing_loss", "load_balancing_loss_pooled_part", "router_z_loss")


@of_table
def balance_loss(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Draw the variants of the balance loss side by side, each with its balanced value and its null.

    Above, the value over all layers of each group; below, layer by layer.

    Args:
        table: `tables.balance_loss`.
        group: the group drawn in full in the lower row.

    Raises:
        InputError: the table lacks the group.
    """
    over, each = table[table["layer"].isna()], table[table["layer"].notna()]
    groups = names_of(over, "group")
    titles = [metric_of(metric).label for metric in _OVER + _LOSSES]
    titles[2] = "mean z-loss, nats²"
    figure, height = panels(titles, columns=3, panel_height=max(130, 19 * len(groups) + 20), share=False)
    for number, metric in enumerate(_OVER):
        cell = place(number, titles, 3)
        for trace in _dots(rows_of(over, metric), groups):
            figure.add_trace(trace, **cell)
        _group_axis(figure, groups, cell, labelled=number == 0)
    for number, metric in enumerate(_LOSSES):
        cell = place(number + 3, titles, 3)
        for trace in layer_traces(each, metric, group, legend=False):
            figure.add_trace(trace, **cell)
        layer_axis(figure, each, **cell)
    more = "above: over all layers, every group; below: layer by layer; dashed: balanced; dotted: independent routing"
    about = subtitle(table[table["group"] == group], more)
    return finish(figure, "Balance loss: variants", about, height=height)


def _group_axis(figure: go.Figure, groups: list[str], cell: dict[str, int], *, labelled: bool) -> None:
    """Put a row for each group down a panel."""
    figure.update_yaxes(
        tickvals=np.arange(len(groups)),
        ticktext=[label(name) for name in groups],
        showticklabels=labelled,
        range=[len(groups) - 0.4, -0.6],
        showgrid=False,
        **cell,
    )
    figure.update_xaxes(nticks=5, **cell)


def _dots(rows: pd.DataFrame, groups: list[str]) -> list[go.Scatter]:
    """Return one dot with interval per group, with null and balanced value as lines down the panel."""
    quantity = metric_of(str(rows["metric"].iloc[0]))
    rows = rows.assign(place=rows["group"].map({name: number for number, name in enumerate(groups)}))
    lines = [
        _down(rows, column, len(groups)) for column in quantity.references(rows.columns) if rows[column].notna().any()
    ]
    dots = go.Scatter(
        x=rows["estimate"].to_numpy(float),
        y=rows["place"].to_numpy(np.int64),
        error_x=whiskers(rows),
        mode="markers",
        marker={"size": 7, "color": ACCENT},
        showlegend=False,
        **hover(rows, ("group",), quantity),
    )
    return [*lines, dots]


def _down(rows: pd.DataFrame, column: str, groups: int) -> go.Scatter:
    """Return the reference values of groups as a line down the panel, drawn a little further on both sides."""
    ordered = rows.sort_values("place")
    return go.Scatter(
        x=np.pad(ordered[column].to_numpy(float), 1, mode="edge"),
        y=np.concatenate([[-0.6], ordered["place"].to_numpy(float), [groups - 0.4]]),
        mode="lines",
        line=DOTTED if column == "null" else DASHED,
        hoverinfo="skip",
        showlegend=False,
    )
