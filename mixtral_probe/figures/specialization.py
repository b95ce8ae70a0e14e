"""What experts know: `domain_specialization`, `group_divergence`, `vocabulary_specialization`, `mutual_information`,
`context_information`, `domain_information`, `expert_tokens`.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.layers import along_layers, layer_axis, layer_traces, others_behind
from mixtral_probe.figures.theme import REFERENCE, finish
from mixtral_probe.figures.words import hover, label, rows_of, subtitle, words_of

_ESTIMATORS = ("vocabulary_specialization", "vocabulary_specialization_crossval")
_VARIABLES = ("domain", "domain|token", "position", "token", "next token", "predicted token")

_CONTEXT = {
    "token": "the token",
    "previous token": "the token before",
    "previous token|token": "the token before, beyond the token itself",
    "next token": "the token that follows",
    "predicted token": "the token predicted",
}


def domain_specialization(
    table: pd.DataFrame, *, metric: str = "frequency_difference", layer: int | None = None
) -> go.Figure:
    """Group × expert: how much more or less a group uses an expert than all do, a panel per layer.

    A navigator like `expert_load_map`: customdata [group, expert].

    Args:
        table: `tables.domain_specialization`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or is empty because documents have no label.
    """
    shown = rows_of(table, metric, layer=layer)
    way = CellMap("expert", "group", "layer", ("group", "expert"), cell_height=15 if layer is None else 22)
    return cell_map(shown, metric, way, "Use of experts by group, against all", centred=True)


def group_divergence(table: pd.DataFrame, *, metric: str = "js_divergence_bits", layer: int | None = None) -> go.Figure:
    """Group × group: how far apart two groups are, a panel per layer; customdata [group, other_group].

    Args:
        table: `tables.group_divergence`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or is empty because there are no two groups.
    """
    shown = rows_of(table, metric, layer=layer)
    turned = shown.rename(columns={"group": "other_group", "other_group": "group"})
    both = pd.concat([shown, turned[list(shown.columns)]], ignore_index=True).sort_values(["group", "other_group"])
    way = CellMap("other_group", "group", "layer", ("group", "other_group"), columns=3, cell_height=22)
    return cell_map(both, metric, way, f"Distance between groups: {words_of(metric).name}", centred=False)


def vocabulary_specialization(
    table: pd.DataFrame, *, target: str = "input", min_count: int = 1, weighting: str = "type", group: str = "all"
) -> go.Figure:
    """How far token types keep to one expert, layer by layer: plug-in and cross-validated, each with its null line.

    Args:
        table: `tables.vocabulary_specialization`.
        target: "input", "predicted" or "next".
        min_count: least number of tokens of a type.
        weighting: "type" or "token".
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks one of them.
    """
    whole = table[table["expert"].isna().to_numpy(dtype=bool)]
    for name, choice in (("target", target), ("min_count", min_count), ("weighting", weighting)):
        held = whole[name].unique().tolist()
        whole = whole[(whole[name] == choice).to_numpy(dtype=bool)]
        if whole.empty:
            raise InputError(f"{name} {choice!r} was asked for, but the table holds {', '.join(map(str, held))}")
    figure, height = along_layers(whole, _ESTIMATORS, group, columns=2)
    shown = whole[(whole["group"] == group).to_numpy(dtype=bool)]
    figure.update_yaxes(range=[0, 1.02])
    title = f"Vocabulary specialization: {target} token"
    return finish(figure, title, subtitle(shown, others_behind(whole, group)), height=height)


def mutual_information(
    table: pd.DataFrame, *, metric: str = "mutual_information_bits_corrected", group: str = "all"
) -> go.Figure:
    """What topic, position and token tell about the expert, layer by layer, a panel each.

    Args:
        table: `tables.mutual_information`.
        metric: one of its metrics.
        group: the group drawn in full; topics are told apart in group "all" alone.

    Raises:
        InputError: the table lacks the metric, or the group says nothing about any variable.
    """
    held = rows_of(table, metric)
    own = held[(held["group"] == group).to_numpy(dtype=bool) & held["value"].notna().to_numpy(dtype=bool)]
    names = [name for name in _VARIABLES if name in set(own["variable"])]
    if not names:
        raise InputError(f"group {group!r} was asked for, but the table holds no value of {metric} for it")
    figure, height = panels(names, columns=2, panel_height=190, share=False, gap=80)
    for number, name in enumerate(names):
        part = held[(held["variable"] == name).to_numpy(dtype=bool)]
        at = place(number, names, 2)
        for trace in layer_traces(part, metric, group, legend=number == 0):
            figure.add_trace(trace, **at)
        figure.update_yaxes(rangemode="tozero", **at)
    layer_axis(figure, held)
    figure.update_yaxes(title_text=words_of(metric).name, col=1)
    shown = own[own["variable"].isin(names).to_numpy(dtype=bool)]
    return finish(figure, "What tells about the expert", subtitle(shown, others_behind(held, group)), height=height)


def context_information(
    table: pd.DataFrame, *, metric: str = "mutual_information_bits_corrected", min_count: int = 1, group: str = "all"
) -> go.Figure:
    """What a token and the one before it tell about the expert, layer by layer on one scale, and what chance shows.

    Args:
        table: `tables.context_information`.
        metric: one of its metrics.
        min_count: least number of tokens of a type, of those the table has; above 1 there are intervals.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks one of them.
    """
    held = rows_of(table, metric, min_count=min_count)
    told = held[held["value"].notna()]
    names = sorted((told if len(told) else held)["variable"].unique(), key=_place)
    figure, height = panels([_CONTEXT.get(name, name) for name in names], columns=3, panel_height=230)
    for number, name in enumerate(names):
        part = held[(held["variable"] == name).to_numpy(dtype=bool)]
        for trace in layer_traces(part, metric, group, legend=number == 0):
            figure.add_trace(trace, **place(number, names, 3))
    layer_axis(figure, held)
    figure.update_yaxes(title_text=words_of(metric).name, col=1)
    figure.update_yaxes(rangemode="tozero")
    about = subtitle(rows_of(held, metric, group), others_behind(held, group))
    return finish(figure, "What a token and its neighbours tell about the expert", about, height=height)


def domain_information(table: pd.DataFrame, *, metric: str = "mutual_information_bits") -> go.Figure:
    """What the label of a document tells about the expert, layer by layer, and what shuffled labels would.

    Args:
        table: `tables.domain_information`.
        metric: one of its metrics.

    Raises:
        InputError: the table lacks the metric, or is empty because documents have no label.
    """
    held = rows_of(table, metric)
    kinds = held[["variable", "min_count"]].drop_duplicates().itertuples(index=False, name=None)
    names = {_kind(variable, least): (variable, least) for variable, least in kinds}
    figure, height = panels(list(names), columns=3, panel_height=230)
    for number, (variable, least) in enumerate(names.values()):
        own = held["variable"] == variable if pd.isna(least) else held["min_count"] == least
        for trace in layer_traces(held[own.fillna(False).to_numpy(dtype=bool)], metric, "all", legend=number == 0):
            figure.add_trace(trace, **place(number, list(names), 3))
    layer_axis(figure, held)
    figure.update_yaxes(title_text=words_of(metric).name, col=1)
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, "What the domain tells about the expert", subtitle(held), height=height)


def _kind(variable: str, least: int | None) -> str:
    if variable == "domain":
        return "the domain"
    which = "" if least == 1 else f", types met {least} times"
    return f"the domain, beyond the token{which}"


def _place(variable: str) -> int:
    return list(_CONTEXT).index(variable) if variable in _CONTEXT else len(_CONTEXT)


def expert_tokens(table: pd.DataFrame, *, layer: int, expert: int, group: str = "all") -> go.Figure:
    """The tokens an expert is chosen for most beyond its load: bars of lift, and the line of none.

    Args:
        table: `tables.expert_tokens`.
        layer: the layer.
        expert: the expert.
        group: one of its groups.

    Raises:
        InputError: the table has nothing about them.
    """
    shown = rows_of(table, "token_lift", group, layer=layer, expert=expert)
    words, held = words_of("token_lift"), shown[shown["value"].notna()]
    texts = [
        label(text) if pd.notna(text) else f"token {number}" for text, number in held[["token", "token_id"]].to_numpy()
    ]
    # Numbers place the bars and texts name them, for two tokens may look alike.
    y = np.arange(len(held))
    figure = go.Figure(
        go.Bar(
            x=held["value"].to_numpy(float),
            y=y,
            orientation="h",
            marker={"color": expert_colors(int(table["expert"].max()) + 1)[expert]},
            hovertext=hover(held.assign(token=texts), ("token_id", "expert", "layer"), words),
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_vline(x=1, line={"color": REFERENCE, "dash": "dot", "width": 1.8})
    figure.update_yaxes(tickvals=y, ticktext=texts, range=[len(held) - 0.4, -0.6], showgrid=False)
    figure.update_xaxes(title_text=words.name, rangemode="tozero")
    title = f"Tokens of expert {expert}, layer {layer}"
    more = "" if group == "all" else f"group {group}"
    return finish(figure, title, subtitle(shown, more), height=190 + 24 * max(len(held), 3))
