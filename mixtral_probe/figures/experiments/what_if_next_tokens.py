"""What is expected after a document, without and with edits: `what_if_next_tokens`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.experiments.what_if import RUN_COLORS, band_whiskers
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, ticks

_RANKS: Mapping[str, str] = {"without": "rank", "edited": "rank_edited"}


@of_table
def what_if_next_tokens(table: pd.DataFrame, *, document: int = 0, most: int = 12) -> go.Figure:
    """Draw what is expected after a document, without the edits, with them, and the range of the placebo.

    Args:
        table: `tables.what_if_next_tokens`.
        document: one of its documents.
        most: candidates drawn, the most probable in any run.

    Raises:
        InputError: the table lacks the document.
    """
    rows = table[(table["document"] == document).to_numpy(dtype=bool)]
    if rows.empty:
        raise InputError(f"document must be one whose next tokens the table has, got {document}")
    columns = ("probability", "probability_edited")
    best = rows[list(columns)].max(axis=1).sort_values(ascending=False).index[:most]
    rows = rows.loc[rows.index.isin(best)].sort_values("probability", ascending=False)
    figure, y = go.Figure(), np.arange(len(rows))
    for name, column in zip(RUN_COLORS, (*columns, "probability_placebo"), strict=True):
        if rows[column].notna().any():
            figure.add_trace(_bars(rows, y, name, column))
    places, texts = ticks(rows["token"], most)
    figure.update_layout(barmode="group", bargap=0.3, showlegend=True, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="probability", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(tickvals=places, ticktext=texts, range=[len(rows) - 0.4, -0.6], showgrid=False)
    note = f"after the last token of document {document} · the most probable without or with the edits"
    return finish(figure, "Next token", note, height=HEAD + FOOT + 34 * len(rows))


def _bars(rows: pd.DataFrame, y: np.ndarray, name: str, column: str) -> go.Bar:
    rank = rows[_RANKS[name]].astype(int).map(" · rank {}".format).to_numpy(object) if name in _RANKS else ""
    return go.Bar(
        x=rows[column].to_numpy(float),
        y=y,
        orientation="h",
        name=name,
        marker_color=RUN_COLORS[name],
        error_x=band_whiskers(rows, column) if name == "placebo" else None,
        hovertext=np.array([f"“{label(token)}”" for token in rows["token"]], dtype=object) + rank,
        hovertemplate=f"%{{hovertext}}<br>{name}: %{{x:.2%}}<extra></extra>",
    )
