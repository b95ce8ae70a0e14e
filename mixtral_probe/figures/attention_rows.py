"""What one query looks at: `attention_query`, `attended_experts`; and a map as a picture: `attention_picture`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mixtral_probe.figures.color import expert_colors, scales
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import hover, label, rows_of, subtitle, words_of

_LABELLED = 40


def attention_query(table: pd.DataFrame, *, query: int) -> go.Figure:
    """How much a query attends to each position, and what even attention would give.

    Args:
        table: `tables.attention_weights` or `tables.attention_rollout`.
        query: its position.

    Raises:
        InputError: the table lacks that query.
    """
    metric = str(table["metric"].iloc[0]) if len(table) else "attention_weight"
    shown = rows_of(table, metric, query=query)
    words, place = words_of(metric), shown["position"].to_numpy(np.int64)
    colors = expert_colors(1 + max((int(text.split()[0]) for text in shown["experts"].astype(str) if text), default=0))
    firsts = [int(text.split()[0]) if text else None for text in shown["experts"].astype(str)]
    bars = go.Bar(
        x=place,
        y=shown["value"].to_numpy(float),
        marker={"color": [ACCENT if first is None else colors[first] for first in firsts], "line": {"width": 0}},
        customdata=_texts(shown),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    even = go.Scatter(
        x=place,
        y=shown["null"].to_numpy(float),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.5},
        name=words.null,
        hoverinfo="skip",
    )
    figure = go.Figure([bars, even])
    figure.update_layout(bargap=0.1, showlegend=True)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="position", showgrid=False)
    if len(place) <= _LABELLED and shown["token"].notna().all():
        texts = [label(str(text)[:16]) for text in shown["token"]]
        figure.update_xaxes(title_text="", tickvals=place, ticktext=texts, tickangle=-60)
    own = shown.loc[(shown["position"] == query).to_numpy(dtype=bool), "token"]
    name = f" “{label(own.iloc[0])}”" if len(own) and pd.notna(own.iloc[0]) else ""
    note = f"bars in the colour of the first expert of the token looked at · {subtitle(shown)}"
    return finish(figure, f"What the token at {query}{name} looks at", note, height=340)


def _texts(shown: pd.DataFrame) -> np.ndarray:
    words = words_of(str(shown["metric"].iloc[0]))
    rows = zip(*(shown[name] for name in ("position", "token", "value", "null", "experts")), strict=True)
    return np.array(
        [
            f"“{label(str(token)[:16])}” at {position}: <b>{words.text(value)}</b><br>{words.null} {words.text(null)}"
            f"<br>experts {experts}"
            for position, token, value, null, experts in rows
        ],
        dtype=object,
    )


def attended_experts(table: pd.DataFrame) -> go.Figure:
    """The share of a query's attention on tokens of each expert: bars, and ticks where even attention would end.

    Args:
        table: `tables.attended_experts` of one query.

    Raises:
        InputError: the table is empty.
    """
    shown = rows_of(table, "attended_share")
    words, expert = words_of("attended_share"), shown["expert"].to_numpy(np.int64)
    bars = go.Bar(
        x=expert,
        y=shown["value"].to_numpy(float),
        marker={"color": expert_colors(len(expert)), "line": {"width": 0}},
        customdata=hover(shown, ["layer", "expert"], words),
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    even = go.Scatter(
        x=expert,
        y=shown["null"].to_numpy(float),
        mode="markers",
        marker={"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": REFERENCE}},
        name=words.null,
        hoverinfo="skip",
    )
    figure = go.Figure([bars, even])
    figure.update_layout(bargap=0.22, showlegend=True)
    figure.update_xaxes(title_text="expert", showgrid=False, dtick=1 if len(expert) <= 16 else None)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    title = f"Experts of what the token at {shown['query'].iloc[0]} looks at"
    return finish(figure, title, subtitle(shown), height=340)


def attention_picture(weights: NDArray[np.floating], *, dark: bool = False) -> NDArray[np.uint8]:
    """[S, M, 3] a map as a picture with a dot for every weight, in the colours of the other maps (root of the weight).

    Args:
        weights: [S, M] in [0, 1].
        dark: for a dark page.
    """
    stops = scales(dark)["sequential"]
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for _, color in stops], float)
    at = [place for place, _ in stops]
    ramp = np.stack([np.interp(np.linspace(0, 1, 256), at, colors[:, part]) for part in range(3)], axis=-1)
    root = np.rint(255 * np.sqrt(np.clip(weights, 0, 1))).astype(np.uint8)
    return np.rint(ramp).astype(np.uint8)[root]
