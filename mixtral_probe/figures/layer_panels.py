"""Values along the layers, with interval and null line, a panel for each metric or variable."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.lines import line, reference_lines
from mixtral_probe.figures.theme import ACCENT, FAINT
from mixtral_probe.figures.words import hover_texts, label, names_of, percent_format, rows_of
from mixtral_probe.tables.registry import Metric, metric_of


def metric_panels(table: pd.DataFrame, metrics: Sequence[str], group: str, *, columns: int) -> tuple[go.Figure, int]:
    """Return metrics along the layers, a panel each, and the figure's height in pixels.

    Raises:
        InputError: no metric is named, or the table lacks one or the group.
    """
    if not metrics:
        raise InputError("metrics must name at least one metric, got none")
    quantities = [metric_of(name) for name in metrics]
    titles = [quantity.label for quantity in quantities]
    figure, height = panels(titles, columns=columns, panel_height=210, share=False, gap=80)
    for number, metric in enumerate(metrics):
        cell = place(number, metrics, columns)
        for trace in layer_traces(table, metric, group, legend=number == 0):
            figure.add_trace(trace, **cell)
        figure.update_yaxes(tickformat=percent_format(quantities[number]), **cell)
    layer_axis(figure, table)
    if len(metrics) == 1:
        figure.update_yaxes(title_text=titles[0])
    return figure, height


def variable_panels(
    parts: Mapping[str, pd.DataFrame],
    metric: str,
    group: str,
    *,
    columns: int,
    panel_height: int = 230,
    share: bool = True,
    gap: int = 44,
) -> tuple[go.Figure, int]:
    """Return one metric of several parts of a table along the layers, a panel each, and the height in pixels.

    Args:
        parts: title and rows of each panel.
        metric, group: what is drawn of them.
        columns, panel_height, share, gap: as in `panels`.

    Raises:
        InputError: a part lacks the metric or the group.
    """
    titles = list(parts)
    figure, height = panels(titles, columns=columns, panel_height=panel_height, share=share, gap=gap)
    for number, part in enumerate(parts.values()):
        for trace in layer_traces(part, metric, group, legend=number == 0):
            figure.add_trace(trace, **place(number, titles, columns))
    layer_axis(figure, pd.concat(list(parts.values())))
    figure.update_yaxes(title_text=metric_of(metric).label, col=1)
    figure.update_yaxes(rangemode="tozero")
    return figure, height


def layer_axis(figure: go.Figure, table: pd.DataFrame, **cell: int) -> None:
    """Name the axis of layers and mark about ten of them."""
    step = max(1, -(-int(table["layer"].max() + 1) // 10))
    figure.update_xaxes(title_text="layer", showgrid=False, dtick=step, **cell)


def layer_traces(table: pd.DataFrame, metric: str, group: str, *, legend: bool) -> list[go.Scatter]:
    """Return one metric along the layers: other groups thin behind, null and balance, the group with its intervals."""
    quantity, rows = metric_of(metric), rows_of(table, metric, group)
    names = [name for name in names_of(table, "group") if name != group]
    behind = [_behind([rows_of(table, metric, name) for name in names], quantity, legend)] if names else []
    style = {"marker": {"size": 6}, "legendgroup": "main"}
    main = line(rows, "layer", ("layer", "group"), quantity, color=ACCENT, name=label(group), legend=legend, **style)
    return [*behind, *reference_lines(rows, "layer", quantity, legend=legend), main]


def _behind(others: list[pd.DataFrame], quantity: Metric, legend: bool) -> go.Scatter:
    """Return the lines of other groups, cut apart by a missing value: one trace draws much faster than many."""
    keys = ("group", "layer")
    return go.Scatter(
        x=np.concatenate([np.append(other["layer"].to_numpy(np.int64), 0) for other in others]),
        y=np.concatenate([np.append(other["estimate"].to_numpy(float), np.nan) for other in others]),
        mode="lines",
        line={"color": FAINT, "width": 1},
        hovertext=np.concatenate([np.append(hover_texts(other, keys, quantity), "") for other in others]),
        hovertemplate="%{hovertext}<extra></extra>",
        name="each other group",
        legendgroup="others",
        showlegend=legend,
    )


def others_behind(table: pd.DataFrame, group: str) -> str:
    """Return the part of a subtitle that says which group is drawn in full."""
    return "" if group == "all" and table["group"].nunique() == 1 else f"group {group}, the others behind"
