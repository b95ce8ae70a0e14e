"""The experts of what a query attends to: `attended_experts`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import REFERENCE, finish
from mixtral_probe.figures.words import hover_texts, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


@of_table
def attended_experts(table: pd.DataFrame) -> go.Figure:
    """Draw the share of a query's attention on tokens of each expert, and ticks where even attention would end.

    Args:
        table: `tables.attended_experts` of one query.

    Raises:
        InputError: the table is empty.
    """
    rows, quantity = rows_of(table, "attended_share"), metric_of("attended_share")
    expert = rows["expert"].to_numpy(np.int64)
    bars = go.Bar(
        x=expert,
        y=rows["estimate"].to_numpy(float),
        marker={"color": expert_colors(len(expert)), "line": {"width": 0}},
        customdata=hover_texts(rows, ["layer", "expert"], quantity),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    mark = {"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": REFERENCE}}
    null = rows["null"].to_numpy(float)
    even = go.Scatter(x=expert, y=null, mode="markers", marker=mark, name=quantity.null, hoverinfo="skip")
    figure = go.Figure([bars, even])
    figure.update_layout(bargap=0.22, showlegend=True)
    figure.update_xaxes(title_text="expert", showgrid=False, dtick=1 if len(expert) <= 16 else None)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    title = f"Experts of what the token at {rows['query'].iloc[0]} looks at"
    return finish(figure, title, subtitle(rows), height=340)
