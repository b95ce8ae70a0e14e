"""From layer to layer: `transitions`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import REFERENCE, finish
from mixtral_probe.figures.words import hover_texts, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of


@of_table
def transitions(
    table: pd.DataFrame,
    *,
    layer: int | None = None,
    steps: int = 3,
    group: str = "all",
    metric: str = "joint_share",
) -> go.Figure:
    """Draw bands from a token's choice in one layer to that in the next, as wide as their share of tokens.

    Bands that carry more than independent choices would are coloured by the expert they come from, the others grey.

    Args:
        table: `tables.transitions`.
        layer: where to begin; None for the first.
        steps: how many layers further, at most.
        group: one of its groups.
        metric: "joint_share" for first choices, "joint_share_all_choices" for each choice with each.

    Raises:
        InputError: the table lacks the metric, layer or group, or the model has one layer.
    """
    rows, layers = _adjacent(rows_of(table, metric, group), layer, steps)
    experts = int(max(rows["expert"].max(), rows["other_expert"].max())) + 1
    bands = go.Sankey(arrangement="fixed", node=_nodes(layers, experts), link=_bands(rows, layers, experts))
    figure = go.Figure(bands)
    for number, name in enumerate(layers):
        at = {"x": number / (len(layers) - 1), "y": 1.02, "xanchor": _anchor(number, len(layers)), "yanchor": "bottom"}
        figure.add_annotation(text=f"layer {name}", xref="paper", yref="paper", **at)
    note = "coloured: more than independent choices give" + ("" if group == "all" else f" · group {group}")
    kind = "First choices" if metric == "joint_share" else "All choices"
    return finish(figure, f"{kind} from layer to layer", subtitle(rows, note), height=560)


def _nodes(layers: Sequence[int], experts: int) -> dict[str, Any]:
    """Return one column of experts for each layer."""
    return {
        "label": [str(expert) for _ in layers for expert in range(experts)],
        "x": np.repeat(np.linspace(0.001, 0.999, len(layers)), experts),
        "y": np.tile((np.arange(experts) + 0.5) / experts, len(layers)),
        "color": expert_colors(experts) * len(layers),
        "pad": 6,
        "thickness": 14,
        "line": {"width": 0},
        "customdata": [f"layer {name}" for name in layers for _ in range(experts)],
        "hovertemplate": "%{customdata} · expert %{label}<br>%{value:.1%} of tokens<extra></extra>",
    }


def _bands(rows: pd.DataFrame, layers: Sequence[int], experts: int) -> dict[str, Any]:
    """Return a band from expert to expert of the next column, where any token went."""
    column = {name: number for number, name in enumerate(layers)}
    links = rows[(rows["estimate"] > 0).to_numpy(bool)]
    colors, more = expert_colors(experts), (links["estimate"] > links["null"]).to_numpy(bool)
    keys = ("layer", "expert", "other_layer", "other_expert")
    return {
        "source": links["layer"].map(column).to_numpy(int) * experts + links["expert"].to_numpy(int),
        "target": links["other_layer"].map(column).to_numpy(int) * experts + links["other_expert"].to_numpy(int),
        "value": links["estimate"].to_numpy(float),
        "color": [
            _faded(colors[int(expert)], 0.6) if strong else _faded(REFERENCE, 0.15)
            for expert, strong in zip(links["expert"], more, strict=True)
        ],
        "customdata": hover_texts(links, keys, metric_of("joint_share")),
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _faded(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _anchor(number: int, count: int) -> str:
    return "left" if number == 0 else "right" if number == count - 1 else "center"


def _adjacent(rows: pd.DataFrame, layer: int | None, steps: int) -> tuple[pd.DataFrame, list[int]]:
    """Return the rows between each layer and the next, from `layer` on, and those layers."""
    known = sorted({int(name) for column in ("layer", "other_layer") for name in rows[column].dropna()})
    start = known[0] if layer is None else layer
    if start not in known[:-1]:
        raise InputError(f"layer must be one with a layer after it ({known[0]}–{known[-2]}), got {start}")
    layers = known[known.index(start) :][: steps + 1]
    following = dict(pairwise(layers))
    chosen = rows["layer"].map(following) == rows["other_layer"]
    return rows[chosen.fillna(False).to_numpy(bool)], layers
