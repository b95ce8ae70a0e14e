"""What one query attends to: `attention_query`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.attention.attention_map import SHORT
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import LABELLED, label, rows_of, subtitle
from mixtral_probe.tables.registry import Metric, metric_of


@of_table
def attention_query(table: pd.DataFrame, *, query: int) -> go.Figure:
    """Draw how much a query attends to each position, and what even attention would give.

    Args:
        table: `tables.attention_weights` or `tables.attention_rollout`.
        query: its position.

    Raises:
        InputError: the table lacks that query.
    """
    metric = str(table["metric"].iloc[0]) if len(table) else "attention_weight"
    rows, quantity = rows_of(table, metric, query=query), metric_of(metric)
    figure = go.Figure([_bars(rows, quantity), _even(rows, quantity)])
    figure.update_layout(bargap=0.1, showlegend=True)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="position", showgrid=False)
    if len(rows) <= LABELLED and rows["token"].notna().all():
        texts = [label(str(text)[:SHORT]) for text in rows["token"]]
        figure.update_xaxes(title_text="", tickvals=rows["position"].to_numpy(np.int64), ticktext=texts, tickangle=-60)
    token = rows.loc[(rows["position"] == query).to_numpy(dtype=bool), "token"]
    name = f" “{label(token.iloc[0])}”" if len(token) and pd.notna(token.iloc[0]) else ""
    note = f"bars in the colour of the first expert of the token looked at · {subtitle(rows)}"
    return finish(figure, f"What the token at {query}{name} looks at", note, height=340)


def _bars(rows: pd.DataFrame, quantity: Metric) -> go.Bar:
    firsts = [int(text.split()[0]) if text else None for text in rows["experts"].astype(str)]
    colors = expert_colors(1 + max((first for first in firsts if first is not None), default=0))
    return go.Bar(
        x=rows["position"].to_numpy(np.int64),
        y=rows["estimate"].to_numpy(float),
        marker={"color": [ACCENT if first is None else colors[first] for first in firsts], "line": {"width": 0}},
        customdata=_texts(rows, quantity),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _even(rows: pd.DataFrame, quantity: Metric) -> go.Scatter:
    return go.Scatter(
        x=rows["position"].to_numpy(np.int64),
        y=rows["null"].to_numpy(float),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.5},
        name=quantity.null,
        hoverinfo="skip",
    )


def _texts(rows: pd.DataFrame, quantity: Metric) -> np.ndarray:
    columns = zip(*(rows[name] for name in ("position", "token", "estimate", "null", "experts")), strict=True)
    return np.array(
        [
            f"“{label(str(token)[:SHORT])}” at {position}: <b>{quantity.text(weight)}</b>"
            f"<br>{quantity.null} {quantity.text(null)}<br>experts {experts}"
            for position, token, weight, null, experts in columns
        ],
        dtype=object,
    )
