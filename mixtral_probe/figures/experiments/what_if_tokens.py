"""How edits change the loss, token by token: `what_if_tokens`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.experiments.what_if import RUN_COLORS
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import LABELLED, label, ticks

_RUNS = {"edited": "loss_change", "placebo": "loss_change_placebo"}


@of_table
def what_if_tokens(table: pd.DataFrame, *, document: int = 0) -> go.Figure:
    """Draw how much more, or less, each token of a document surprises with the edits, and the range of the placebo.

    Args:
        table: `tables.what_if_tokens`.
        document: one of its documents.

    Raises:
        InputError: the table lacks the document.
    """
    rows = table[(table["document"] == document).to_numpy(dtype=bool)]
    if rows.empty:
        raise InputError(f"document must be one the table has, got {document}")
    lines = [_line(rows, run, column) for run, column in _RUNS.items() if rows[column].notna().any()]
    figure = go.Figure([*_range(rows), *lines])
    few = len(rows) <= LABELLED
    if few:
        places, names = ticks(rows["token"], LABELLED)
        figure.update_xaxes(tickvals=places, ticktext=names, tickangle=-60)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text=None if few else "token", showgrid=False)
    figure.update_yaxes(title_text="change of the loss, nats", zeroline=True, zerolinecolor=RUN_COLORS["without"])
    note = f"document {document} · loss with the change − loss without, token by token · n = {len(rows):,} tokens"
    return finish(figure, "Surprise at each token", note, height=HEAD + FOOT + 260)


def _range(rows: pd.DataFrame) -> list[go.Scatter]:
    """Return the area between the least and the greatest draw of the placebo, where the table has several."""
    if "placebo_low" not in rows or rows["placebo_low"].isna().all():
        return []
    known = np.flatnonzero(rows["placebo_low"].notna())
    low, high = (rows[name].to_numpy(float)[known] for name in ("placebo_low", "placebo_high"))
    area = {"fill": "toself", "fillcolor": RUN_COLORS["placebo"], "opacity": 0.25, "line": {"width": 0}}
    x, y = np.concatenate([known, known[::-1]]), np.concatenate([high, low[::-1]])
    return [go.Scatter(x=x, y=y, mode="lines", name="range of the placebo's draws", hoverinfo="skip", **area)]


def _line(rows: pd.DataFrame, run: str, column: str) -> go.Scatter:
    return go.Scatter(
        x=np.arange(len(rows)),
        y=rows[column].to_numpy(float),
        mode="lines+markers",
        name=run,
        hovertext=np.array([f"“{label(token)}”" for token in rows["token"]], dtype=object),
        line={"color": RUN_COLORS[run], "width": 1.6},
        marker={"size": 4},
        hovertemplate=f"%{{hovertext}}, token %{{x}}<br>{run}: %{{y:+.3f}} nats<extra></extra>",
    )
