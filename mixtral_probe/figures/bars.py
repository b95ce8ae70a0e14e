"""Bars with whiskers, one panel per layer: `expert_load`, `load_by_rank`, `expert_relevance`."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.theme import REFERENCE, finish
from mixtral_probe.figures.words import Words, hover, rows_of, subtitle, words_of


def expert_load(
    table: pd.DataFrame, *, metric: str = "share", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """How much each expert is used: bars with 95 % whiskers and the line of even use, at one layer or at each.

    Args:
        table: `tables.expert_load`.
        metric: one of its metrics.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    shown = rows_of(table, metric, group, layer=layer)
    words, colors = words_of(metric), expert_colors(int(shown["expert"].max()) + 1)
    figure, height = _panels(shown, words)
    for place_, part in _by_layer(shown):
        expert = part["expert"].to_numpy(np.int64)
        figure.add_trace(
            _bars(part, words, name="share", showlegend=False, marker_color=[colors[i] for i in expert]), **place_
        )
    return finish(figure, _title("Expert load", shown, layer), _subtitle(shown, group), height=height)


def load_by_rank(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """How often each expert is the first, second, … choice: bars side by side, strongest choice darkest.

    Args:
        table: `tables.load_by_rank`.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    shown = rows_of(table, "rank_share", group, layer=layer)
    figure, height = _panels(shown, words_of("rank_share"))
    ranks = sorted(int(rank) for rank in shown["rank"].unique())
    for number, (place_, part) in enumerate(_by_layer(shown)):
        for rank in ranks:
            bars = _bars(
                part[part["rank"] == rank],
                words_of("rank_share"),
                name=f"choice {rank + 1} (rank {rank})",
                legendgroup=f"rank {rank}",
                showlegend=number == 0,
                marker_color=_RANKS[rank % len(_RANKS)],
            )
            figure.add_trace(bars, **place_)
    figure.update_layout(barmode="group")
    return finish(figure, _title("Load by rank", shown, layer), _subtitle(shown, group), height=height)


def expert_relevance(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """How much of a document each expert takes: its mean weight beside its share of the choices, and even use.

    Args:
        table: `tables.expert_relevance`.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    scores = {metric: rows_of(table, metric, group, layer=layer) for metric in RELEVANCE}
    shown = pd.concat([part for part in scores.values() if part["value"].notna().any()] or scores.values())
    figure, height = _panels(shown, Words("mean of documents", ".1%", words_of("average_gate_score").null))
    for metric, color in zip(shown["metric"].unique(), _RANKS, strict=False):
        words = words_of(metric)
        for number, (place_, part) in enumerate(_by_layer(scores[metric])):
            named = {"name": RELEVANCE[metric], "legendgroup": metric, "showlegend": number == 0}
            figure.add_trace(_bars(part, words, marker_color=color, **named), **place_)
    figure.update_layout(barmode="group")
    return finish(figure, _title("Relevance of experts", shown, layer), _subtitle(shown, group), height=height)


RELEVANCE = {"average_gate_score": "gate score", "token_selection_ratio": "selection ratio"}
_RANKS = ("#2172b0", "#f3a209", "#29a587", "#ba6efa", "#626262")
_COLUMNS = 4


def _panels(shown: pd.DataFrame, words: Words) -> tuple[go.Figure, int]:
    """An empty panel per layer with its axes and its line of even use."""
    layers = shown["layer"].unique()
    single = len(layers) == 1
    figure, height = panels([f"layer {n}" for n in layers], columns=_COLUMNS, panel_height=320 if single else 130)
    figure.update_layout(bargap=0.22)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=6 if single else 4)
    figure.update_xaxes(showgrid=False, dtick=1 if shown["expert"].max() < 12 else None)
    across = min(_COLUMNS, len(layers))
    figure.update_xaxes(title_text="expert", row=-(-len(layers) // across))
    figure.update_yaxes(title_text=words.name, col=1)
    for number, (place_, part) in enumerate(_by_layer(shown)):
        figure.add_trace(_even(part, words, showlegend=number == 0), **place_)
    return figure, height


def _by_layer(shown: pd.DataFrame) -> list[tuple[dict[str, int], pd.DataFrame]]:
    parts = [part for _, part in shown.groupby("layer", sort=False)]
    return [(place(number, parts, _COLUMNS), part) for number, part in enumerate(parts)]


def _even(part: pd.DataFrame, words: Words, *, showlegend: bool) -> go.Scatter:
    """The null of each expert as a dotted line, drawn half a bar further on both sides."""
    null = part.drop_duplicates("expert").sort_values("expert")
    ends = np.concatenate([[-0.5], null["expert"].to_numpy(float), [null["expert"].max() + 0.5]])
    return go.Scatter(
        x=ends,
        y=np.pad(null["null"].to_numpy(float), 1, mode="edge"),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.6},
        name=f"{words.null} ({words.text(null['null'].iloc[0])})",
        legendgroup="null",
        showlegend=showlegend,
        hoverinfo="skip",
    )


def _bars(part: pd.DataFrame, words: Words, **more: Any) -> go.Bar:
    keys = [key for key in ("layer", "group", "expert", "rank") if key in part]
    return go.Bar(
        x=part["expert"].to_numpy(np.int64),
        y=part["value"].to_numpy(float),
        error_y=whiskers(part),
        hovertext=hover(part, keys, words),
        hovertemplate="%{hovertext}<extra></extra>",
        **more,
    )


def whiskers(part: pd.DataFrame) -> dict[str, Any]:
    """The interval of each row as plotly's error bars; where there is none, none is drawn."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (part["high"] - part["value"]).to_numpy(float),
        "arrayminus": (part["value"] - part["low"]).to_numpy(float),
    }


def _title(noun: str, shown: pd.DataFrame, layer: int | None) -> str:
    return f"{noun}, layer {layer}" if layer is not None else f"{noun} in {shown['layer'].nunique()} layers"


def _subtitle(shown: pd.DataFrame, group: str) -> str:
    return subtitle(shown, "" if group == "all" else f"group {group}")
