"""What edits changed, beside a placebo: `what_if`, `what_if_experts`, `what_if_next_tokens`, `what_if_tokens`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, label, rows_of, subtitle, ticks, words_of

_COLORS = {"without": "#808b96", "edited": "#2172b0", "placebo": "#f3a209"}
_LABELLED = 40


def what_if(table: pd.DataFrame) -> go.Figure:
    """Tokens with another set of experts, layer by layer: with the edits, and with the placebo.

    Args:
        table: `tables.what_if`.

    Raises:
        InputError: the table holds none.
    """
    shown = rows_of(table, "rerouted")
    shown = shown[shown["layer"].notna()]
    figure, words = go.Figure(), words_of("rerouted")
    for run, part in shown.groupby("run", sort=False):
        figure.add_trace(
            go.Bar(
                x=part["layer"].to_numpy(np.int64),
                y=part["value"].to_numpy(float),
                error_y=whiskers(part),
                name=str(run),
                marker_color=_COLORS[str(run)],
                hovertext=hover(part, ("run", "layer"), words),
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    figure.update_layout(barmode="group", bargap=0.3, showlegend=True)
    figure.update_xaxes(title_text="layer", dtick=1 if shown["layer"].nunique() <= 16 else None, showgrid=False)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    return finish(figure, "Tokens sent to other experts", _note(shown), height=HEAD + FOOT + 240)


def what_if_experts(table: pd.DataFrame, *, layer: int) -> go.Figure:
    """How much each expert of a layer is used without the edits, with them, and with the placebo.

    Args:
        table: `tables.what_if`.
        layer: one of its layers.

    Raises:
        InputError: the table lacks the layer.
    """
    shown = rows_of(table, "share", layer=layer)
    edited = shown[shown["run"] == "edited"]
    sides = {"without": edited.assign(value=edited["null"])}
    sides |= {str(run): part for run, part in shown.groupby("run", sort=False)}
    figure, words = go.Figure(), words_of("share")
    for name, part in sides.items():
        figure.add_trace(
            go.Bar(
                x=part["expert"].to_numpy(np.int64),
                y=part["value"].to_numpy(float),
                name=name,
                marker_color=_COLORS[name],
                hovertemplate=f"expert %{{x}}, {name}: %{{y:.1%}}<extra></extra>",
            )
        )
    figure.update_layout(barmode="group", bargap=0.25, showlegend=True)
    figure.update_xaxes(title_text="expert", dtick=1 if shown["expert"].nunique() <= 16 else None, showgrid=False)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Use of the experts of layer {layer}", _note(edited), height=HEAD + FOOT + 240)


def what_if_next_tokens(table: pd.DataFrame, *, document: int = 0, most: int = 12) -> go.Figure:
    """What is expected after a document, without the edits, with them, and with the placebo.

    Args:
        table: `tables.what_if_next_tokens`.
        document: one of its documents.
        most: candidates shown, the most probable on any side.

    Raises:
        InputError: the table lacks the document.
    """
    shown = table[(table["document"] == document).to_numpy(dtype=bool)]
    if shown.empty:
        raise InputError(f"document {document} was asked for, but the table holds none of its next tokens")
    sides = ("probability", "probability_edited")
    best = shown[list(sides)].max(axis=1).sort_values(ascending=False).index[:most]
    shown = shown.loc[shown.index.isin(best)].sort_values("probability", ascending=False)
    figure, y = go.Figure(), np.arange(len(shown))
    for name, column in zip(_COLORS, (*sides, "probability_placebo"), strict=True):
        if shown[column].notna().any():
            figure.add_trace(_next(shown, y, name, column))
    places, texts = ticks(shown["token"], most)
    figure.update_layout(barmode="group", bargap=0.3, showlegend=True, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="probability", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(tickvals=places, ticktext=texts, range=[len(shown) - 0.4, -0.6], showgrid=False)
    note = f"after the last token of document {document} · the most probable without or with the edits"
    return finish(figure, "Next token", note, height=HEAD + FOOT + 34 * len(shown))


def _next(shown: pd.DataFrame, y: np.ndarray, name: str, column: str) -> go.Bar:
    ranks: Mapping[str, str] = {"without": "rank", "edited": "rank_edited"}
    rank = shown[ranks[name]].astype(int).map(" · rank {}".format).to_numpy(object) if name in ranks else ""
    return go.Bar(
        x=shown[column].to_numpy(float),
        y=y,
        orientation="h",
        name=name,
        marker_color=_COLORS[name],
        hovertext=np.array([f"“{label(token)}”" for token in shown["token"]], dtype=object) + rank,
        hovertemplate=f"%{{hovertext}}<br>{name}: %{{x:.2%}}<extra></extra>",
    )


def what_if_tokens(table: pd.DataFrame, *, document: int = 0) -> go.Figure:
    """How much more, or less, each token of a document surprises with the edits, and with the placebo.

    Args:
        table: `tables.what_if_tokens`.
        document: one of its documents.

    Raises:
        InputError: the table lacks the document.
    """
    shown = table[(table["document"] == document).to_numpy(dtype=bool)]
    if shown.empty:
        raise InputError(f"document {document} was asked for, but the table does not hold it")
    figure, x = go.Figure(), np.arange(len(shown))
    texts = np.array([f"“{label(token)}”" for token in shown["token"]], dtype=object)
    for name, column in (("edited", "loss_change"), ("placebo", "loss_change_placebo")):
        if shown[column].notna().any():
            figure.add_trace(
                go.Scatter(
                    x=x, y=shown[column].to_numpy(float), mode="lines+markers", name=name, hovertext=texts,
                    line={"color": _COLORS[name], "width": 1.6}, marker={"size": 4},
                    hovertemplate=f"%{{hovertext}}, token %{{x}}<br>{name}: %{{y:+.3f}} nats<extra></extra>",
                )
            )  # fmt: skip
    if len(shown) <= _LABELLED:
        places, names = ticks(shown["token"], _LABELLED)
        figure.update_xaxes(tickvals=places, ticktext=names, tickangle=-60)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text=None if len(shown) <= _LABELLED else "token", showgrid=False)
    figure.update_yaxes(title_text="change of the loss, nats", zeroline=True, zerolinecolor=_COLORS["without"])
    note = f"document {document} · loss with the change − loss without, token by token · n = {len(shown):,} tokens"
    return finish(figure, "Surprise at each token", note, height=HEAD + FOOT + 260)


def _note(shown: pd.DataFrame) -> str:
    """Scope and n, without the sentences of the edits, which are long and differ from run to run."""
    runs = ("edited: ", "placebo: ")
    plain = [
        "; ".join(part for part in str(scope).split("; ") if not part.startswith(runs)) for scope in shown["scope"]
    ]
    return subtitle(shown.assign(scope=plain))
