"""Along the text, within a choice, between layers: `repetition`, `repetition_lags`, `coactivation`, `transitions`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.color import PALETTE, expert_colors
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.layers import along_layers, others_behind
from mixtral_probe.figures.lines import line, null_line
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import hover, rows_of, subtitle, words_of

REPETITION = ("repetition_first", "repetition_any", "overlap")
_SHUFFLED = PALETTE[1]


def repetition(table: pd.DataFrame, *, lag: int = 1, group: str = "all") -> go.Figure:
    """How often tokens `lag` apart go to the same experts, layer by layer, and two tokens with these loads.

    Args:
        table: `tables.repetition`.
        lag: how many tokens apart.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks the lag or the group.
    """
    own = rows_of(table, REPETITION[0], lag=lag)
    figure, height = along_layers(table[table["lag"] == int(own["lag"].iloc[0])], REPETITION, group, columns=3)
    shown = table[((table["lag"] == lag) & (table["group"] == group) & table["metric"].isin(REPETITION)).to_numpy(bool)]
    title = f"Repetition, {lag} token{'s' if lag > 1 else ''} apart"
    return finish(figure, title, subtitle(shown, others_behind(table, group)), height=height)


def repetition_lags(table: pd.DataFrame, *, layer: int, group: str = "all") -> go.Figure:
    """Repetition by how far apart two tokens are, and what a shuffle of each document's tokens leaves of it.

    Args:
        table: `tables.repetition`.
        layer: the layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks the layer or the group.
    """
    titles = [words_of(name).name for name in REPETITION]
    figure, height = panels(titles, columns=3, panel_height=210, share=False, gap=80)
    for number, name in enumerate(REPETITION):
        own, words, at = rows_of(table, name, group, layer=layer), words_of(name), place(number, titles, 3)
        keys, first = ("lag", "layer", "group"), number == 0
        figure.add_trace(null_line(own, "lag", words.null, legend=first), **at)
        shuffled = table[(table["metric"] == f"{name}_shuffled").to_numpy(bool)]
        if len(shuffled):
            part = rows_of(shuffled, f"{name}_shuffled", group, layer=layer)
            figure.add_trace(
                line(part, "lag", keys, words, color=_SHUFFLED, name="tokens shuffled", legend=first), **at
            )
        figure.add_trace(line(own, "lag", keys, words, color=ACCENT, name="as it is", legend=first), **at)
        figure.update_yaxes(tickformat=".0%", rangemode="tozero", **at)
    figure.update_xaxes(title_text="tokens apart", showgrid=False, dtick=1)
    shown = table[((table["layer"] == layer) & (table["group"] == group)).fillna(False).to_numpy(bool)]
    more = "" if group == "all" else f"group {group}"
    return finish(figure, f"Repetition by distance, layer {layer}", subtitle(shown, more), height=height)


def coactivation(
    table: pd.DataFrame, *, metric: str = "coactivation_preference", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Expert × expert: which experts a token chooses together, a panel per layer; customdata [expert, other_expert].

    Args:
        table: `tables.coactivation`.
        metric: one of its metrics; the first is coloured by its distance from no preference.
        layer: one layer; None for all.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    shown = rows_of(table, metric, group, layer=layer)
    way = CellMap("other_expert", "expert", "layer", ("expert", "other_expert"))
    centred = metric == "coactivation_preference"
    return cell_map(shown, metric, way, "Experts chosen together", centred=centred)


def transitions(
    table: pd.DataFrame,
    *,
    layer: int | None = None,
    steps: int = 3,
    group: str = "all",
    metric: str = "joint_share",
) -> go.Figure:
    """From a token's choice in one layer to that in the next, as bands as wide as their share of tokens.

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
    shown = rows_of(table, metric, group)
    shown, layers = _adjacent(shown, layer, steps)
    experts = int(max(shown["expert"].max(), shown["other_expert"].max())) + 1
    bands = go.Sankey(arrangement="fixed", node=_nodes(layers, experts), link=_bands(shown, layers, experts))
    figure = go.Figure(bands)
    for number, name in enumerate(layers):
        at = {"x": number / (len(layers) - 1), "y": 1.02, "xanchor": _anchor(number, len(layers)), "yanchor": "bottom"}
        figure.add_annotation(text=f"layer {name}", xref="paper", yref="paper", **at)
    note = "coloured: more than independent choices give" + ("" if group == "all" else f" · group {group}")
    kind = "First choices" if metric == "joint_share" else "All choices"
    return finish(figure, f"{kind} from layer to layer", subtitle(shown, note), height=560)


def _nodes(layers: Sequence[int], experts: int) -> dict[str, Any]:
    """One column of experts for each layer."""
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


def _bands(shown: pd.DataFrame, layers: Sequence[int], experts: int) -> dict[str, Any]:
    """From expert to expert of the next column, where any token went."""
    column = {name: number for number, name in enumerate(layers)}
    held = shown[(shown["value"] > 0).to_numpy(bool)]
    colors, more = expert_colors(experts), (held["value"] > held["null"]).to_numpy(bool)
    return {
        "source": held["layer"].map(column).to_numpy(int) * experts + held["expert"].to_numpy(int),
        "target": held["other_layer"].map(column).to_numpy(int) * experts + held["other_expert"].to_numpy(int),
        "value": held["value"].to_numpy(float),
        "color": [
            _faded(colors[int(expert)], 0.6) if strong else _faded(REFERENCE, 0.15)
            for expert, strong in zip(held["expert"], more, strict=True)
        ],
        "customdata": hover(held, ("layer", "expert", "other_layer", "other_expert"), words_of("joint_share")),
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _faded(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _anchor(number: int, count: int) -> str:
    return "left" if number == 0 else "right" if number == count - 1 else "center"


def _adjacent(shown: pd.DataFrame, layer: int | None, steps: int) -> tuple[pd.DataFrame, list[int]]:
    """The rows between each layer and the next, from `layer` on, and those layers."""
    known = sorted({int(name) for column in ("layer", "other_layer") for name in shown[column].dropna()})
    start = known[0] if layer is None else layer
    if start not in known[:-1]:
        raise InputError(f"bands begin at a layer with one after it ({known[0]}–{known[-2]}), but layer {start} came")
    layers = known[known.index(start) :][: steps + 1]
    following = dict(pairwise(layers))
    wanted = shown["layer"].map(following) == shown["other_layer"]
    return shown[wanted.fillna(False).to_numpy(bool)], layers
