"""The commonest ways through all layers: `paths`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle, whiskers
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import hover, label, rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def paths(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Draw the commonest ways through all layers: bars with intervals, and a mark where independent layers would be.

    Args:
        table: `tables.paths`.
        group: one of its groups.

    Raises:
        InputError: the table lacks the group.
    """
    rows, quantity = rows_of(table, "path_share", group), metric_of("path_share")
    y = np.arange(len(rows))
    bars = go.Bar(
        x=rows["estimate"].to_numpy(float),
        y=y,
        orientation="h",
        error_x=whiskers(rows),
        marker_color=ACCENT,
        name="as it is",
        **hover(rows, ("path",), quantity),
    )
    mark = {"symbol": "line-ns", "size": 12, "line": {"width": 2, "color": REFERENCE}}
    null = rows["null"].to_numpy(float)
    marks = go.Scatter(x=null, y=y, mode="markers", marker=mark, name=quantity.null, hoverinfo="skip")
    figure = go.Figure([bars, marks])
    style = {"range": [len(rows) - 0.4, -0.6], "showgrid": False, "ticklabelstandoff": 5}
    figure.update_yaxes(tickvals=y, ticktext=[label(path) for path in rows["path"]], **style)
    figure.update_xaxes(title_text=quantity.label, tickformat=".1%", rangemode="tozero")
    return finish(figure, "Commonest paths", group_subtitle(rows, group), height=200 + 20 * len(rows))
