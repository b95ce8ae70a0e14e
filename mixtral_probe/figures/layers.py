"""Values along the layers, with interval and null line: `balance`, `balance_loss`, `router_confidence`, `agreement`,
`logit_lens`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.theme import ACCENT, FAINT, REFERENCE, finish
from mixtral_probe.figures.words import Words, hover, label, names_of, rows_of, subtitle, words_of

BALANCE = ("max_violation", "cv_squared", "normalized_entropy")
AGREEMENT = ("set_overlap", "first_agreement", "same_set")
CONFIDENCE = ("router_entropy", "top1_probability", "topk_mass", "selection_margin")
LENS = ("lens_divergence_bits", "lens_agreement", "lens_next_token_bits", "lens_entropy_bits")
_LOSSES = ("load_balancing_loss", "load_balancing_loss_pooled_part", "router_z_loss")
_OVER = ("load_balancing_loss_mean", "load_balancing_loss_pooled", "router_z_loss")


def balance(table: pd.DataFrame, *, metrics: Sequence[str] = BALANCE, group: str = "all") -> go.Figure:
    """How unevenly each layer uses its experts, with intervals where the metric has one and the null line.

    Args:
        table: `tables.balance`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics, one panel each.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    figure, height = along_layers(table, metrics, group, columns=3)
    shown = table[table["metric"].isin(list(metrics)) & (table["group"] == group)]
    return finish(figure, "Balance by layer", subtitle(shown, others_behind(table, group)), height=height)


def router_confidence(table: pd.DataFrame, *, metrics: Sequence[str] = CONFIDENCE, group: str = "all") -> go.Figure:
    """How sure the router is in each layer: mean with interval, the middle half of the tokens as a band.

    Args:
        table: `tables.router_confidence`.
        metrics: some of its metrics, one panel each.
        group: the group drawn in full; the means of the others are thin lines behind.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    means = table[table["statistic"] == "mean"]
    figure, height = along_layers(means, metrics, group, columns=2)
    for number, metric in enumerate(metrics):
        own = rows_of(table, metric, group)
        low, high = (own[own["statistic"] == name] for name in ("q25", "q75"))
        for band in _band(low, high, legend=number == 0):
            figure.add_trace(band, **place(number, metrics, 2))
    shown = means[means["metric"].isin(list(metrics)) & (means["group"] == group)]
    return finish(figure, "Router confidence by layer", subtitle(shown, others_behind(table, group)), height=height)


def agreement(table: pd.DataFrame, *, metrics: Sequence[str] = AGREEMENT, group: str = "all") -> go.Figure:
    """How far two traces agree in each layer, with intervals and what chance gives.

    Args:
        table: `tables.agreement`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics that layers have, one panel each.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    whole = table[table["layer"].notna() & table["expert"].isna()]
    figure, height = along_layers(whole, metrics, group, columns=3)
    shown = whole[whole["metric"].isin(list(metrics)) & (whole["group"] == group)]
    return finish(figure, "Agreement by layer", subtitle(shown, others_behind(table, group)), height=height)


def logit_lens(table: pd.DataFrame) -> go.Figure:
    """How each layer's prediction compares with the model's own, which is the dotted line.

    Args:
        table: `tables.logit_lens`.

    Raises:
        InputError: it is empty.
    """
    figure, height = along_layers(table, LENS, "all", columns=2)
    return finish(figure, "Predictions by layer", subtitle(table[table["metric"].isin(LENS)]), height=height)


def balance_loss(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """The variants of the balance loss side by side, each with the line of its own balanced value.

    Above, the value over all layers of each group; below, layer by layer.

    Args:
        table: `tables.balance_loss`.
        group: the group drawn in full in the lower row.

    Raises:
        InputError: the table lacks the group.
    """
    over = table[table["layer"].isna()]
    each = table[table["layer"].notna()]
    groups = names_of(over, "group")
    titles = [words_of(metric).name for metric in _OVER] + [words_of(metric).name for metric in _LOSSES]
    titles[2] = "mean z-loss, nats²"
    figure, height = panels(titles, columns=3, panel_height=max(130, 19 * len(groups) + 20), share=False)
    for number, metric in enumerate(_OVER):
        at = place(number, titles, 3)
        for trace in _dots(rows_of(over, metric), groups):
            figure.add_trace(trace, **at)
        figure.update_yaxes(
            tickvals=np.arange(len(groups)),
            ticktext=[label(name) for name in groups],
            showticklabels=number == 0,
            range=[len(groups) - 0.4, -0.6],
            showgrid=False,
            **at,
        )
        figure.update_xaxes(nticks=5, **at)
    for number, metric in enumerate(_LOSSES):
        at = place(number + 3, titles, 3)
        for trace in layer_traces(each, metric, group, legend=False):
            figure.add_trace(trace, **at)
        layer_axis(figure, each, **at)
    shown = table[table["group"] == group]
    more = "above: over all layers, every group; below: layer by layer; dotted: the balanced value"
    return finish(figure, "Balance loss: variants", subtitle(shown, more), height=height)


def along_layers(table: pd.DataFrame, metrics: Sequence[str], group: str, *, columns: int) -> tuple[go.Figure, int]:
    """Metrics along the layers, a panel each, and the figure's height in pixels."""
    if not metrics:
        raise InputError("at least one metric must be named, but none was")
    titles = [words_of(name).name for name in metrics]
    figure, height = panels(titles, columns=columns, panel_height=210, share=False, gap=80)
    for number, metric in enumerate(metrics):
        at = place(number, metrics, columns)
        for trace in layer_traces(table, metric, group, legend=number == 0):
            figure.add_trace(trace, **at)
        figure.update_yaxes(tickformat=words_of(metric).format if "%" in words_of(metric).format else None, **at)
    layer_axis(figure, table)
    if len(metrics) == 1:
        figure.update_yaxes(title_text=words_of(metrics[0]).name)
    return figure, height


def layer_axis(figure: go.Figure, table: pd.DataFrame, **at: int) -> None:
    """Name the axis of layers and mark about ten of them."""
    step = max(1, -(-int(table["layer"].max() + 1) // 10))
    figure.update_xaxes(title_text="layer", showgrid=False, dtick=step, **at)


def layer_traces(table: pd.DataFrame, metric: str, group: str, *, legend: bool) -> list[go.Scatter]:
    """One metric along the layers: other groups thin behind, the null line, and the group with its intervals."""
    words, shown = words_of(metric), rows_of(table, metric, group)
    names = [name for name in names_of(table, "group") if name != group]
    thin = [_behind([rows_of(table, metric, name) for name in names], words, legend)] if names else []
    return [*thin, _null(shown, words.null, legend), _main(shown, group, metric, legend)]


def _behind(others: list[pd.DataFrame], words: Words, legend: bool) -> go.Scatter:
    """The lines of all other groups, cut apart by a missing value: one trace draws several times faster than many."""
    cut = [np.append(other["value"].to_numpy(float), np.nan) for other in others]
    return go.Scatter(
        x=np.concatenate([np.append(other["layer"].to_numpy(np.int64), 0) for other in others]),
        y=np.concatenate(cut),
        mode="lines",
        line={"color": FAINT, "width": 1},
        hovertext=np.concatenate([np.append(hover(other, ("group", "layer"), words), "") for other in others]),
        hovertemplate="%{hovertext}<extra></extra>",
        name="each other group",
        legendgroup="others",
        showlegend=legend,
    )


def _null(shown: pd.DataFrame, name: str, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=shown["layer"].to_numpy(np.int64),
        y=shown["null"].to_numpy(float),
        mode="lines",
        line={"color": REFERENCE, "dash": "dot", "width": 1.8},
        name=name,
        legendgroup="null",
        showlegend=legend,
        hoverinfo="skip",
    )


def _main(shown: pd.DataFrame, group: str, metric: str, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=shown["layer"].to_numpy(np.int64),
        y=shown["value"].to_numpy(float),
        error_y=whiskers(shown),
        mode="lines+markers",
        line={"color": ACCENT, "width": 2},
        marker={"size": 6},
        hovertext=hover(shown, ("layer", "group"), words_of(metric)),
        hovertemplate="%{hovertext}<extra></extra>",
        name=label(group),
        legendgroup="main",
        showlegend=legend,
    )


def _band(low: pd.DataFrame, high: pd.DataFrame, *, legend: bool) -> list[go.Scatter]:
    """The lower edge without a line, and the upper edge filled down to it."""
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band"}
    return [
        go.Scatter(x=low["layer"].to_numpy(np.int64), y=low["value"].to_numpy(float), showlegend=False, **edge),
        go.Scatter(
            x=high["layer"].to_numpy(np.int64),
            y=high["value"].to_numpy(float),
            fill="tonexty",
            fillcolor="rgba(33,114,176,0.16)",
            name="middle half of the tokens",
            showlegend=legend,
            **edge,
        ),
    ]


def _dots(shown: pd.DataFrame, groups: list[str]) -> list[go.Scatter]:
    """One dot with interval per group, and the balanced value as a line down the panel."""
    metric = str(shown["metric"].iloc[0])
    y = shown["group"].map({name: number for number, name in enumerate(groups)}).to_numpy(np.int64)
    null = float(shown["null"].iloc[0])
    return [
        go.Scatter(
            x=np.full(2, null),
            y=np.array([-0.6, len(groups) - 0.4]),
            mode="lines",
            line={"color": REFERENCE, "dash": "dot", "width": 1.8},
            hoverinfo="skip",
            showlegend=False,
        ),
        go.Scatter(
            x=shown["value"].to_numpy(float),
            y=y,
            error_x=whiskers(shown),
            mode="markers",
            marker={"size": 7, "color": ACCENT},
            hovertext=hover(shown, ("group",), words_of(metric)),
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        ),
    ]


def others_behind(table: pd.DataFrame, group: str) -> str:
    """For the subtitle: which group is drawn in full."""
    return "" if group == "all" and table["group"].nunique() == 1 else f"group {group}, the others behind"
