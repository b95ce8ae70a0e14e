"""What routing asks of a serving system: `paths`, `cache_simulation`, `placement_simulation`, `capacity_simulation`,
`skipping_simulation`.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import whiskers
from mixtral_probe.figures.color import PALETTE
from mixtral_probe.figures.layers import along_layers, others_behind
from mixtral_probe.figures.lines import layers_of, line, null_line, with_layer
from mixtral_probe.figures.theme import ACCENT, FAINT, REFERENCE, finish
from mixtral_probe.figures.words import hover, label, rows_of, subtitle, words_of

PLACEMENT = {
    "rank_imbalance": "in their order",
    "rank_imbalance_eplb": "by EPLB",
    "rank_imbalance_eplb_crossval": "by EPLB, on the other half",
}


POLICIES = {"belady": "Belady", "lfu": "LFU", "lru": "LRU", "static": "static: the busiest"}


def paths(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """The commonest ways through all layers: bars with intervals, and a mark where independent layers would be.

    Args:
        table: `tables.paths`.
        group: one of its groups.

    Raises:
        InputError: the table lacks the group.
    """
    shown, words = rows_of(table, "path_share", group), words_of("path_share")
    place = np.arange(len(shown))
    figure = go.Figure(
        go.Bar(
            x=shown["value"].to_numpy(float),
            y=place,
            orientation="h",
            error_x=whiskers(shown),
            marker_color=ACCENT,
            hovertext=hover(shown, ("path",), words),
            hovertemplate="%{hovertext}<extra></extra>",
            name="as it is",
        )
    )
    mark = {"symbol": "line-ns", "size": 12, "line": {"width": 2, "color": REFERENCE}}
    null = shown["null"].to_numpy(float)
    figure.add_trace(go.Scatter(x=null, y=place, mode="markers", marker=mark, name=words.null, hoverinfo="skip"))
    texts = [label(path) for path in shown["path"]]
    figure.update_yaxes(
        tickvals=place, ticktext=texts, range=[len(shown) - 0.4, -0.6], showgrid=False, ticklabelstandoff=5
    )
    figure.update_xaxes(title_text=words.name, tickformat=".1%", rangemode="tozero")
    return finish(figure, "Commonest paths", subtitle(shown, _only(group)), height=200 + 20 * len(shown))


def cache_simulation(
    table: pd.DataFrame, *, metric: str = "hit_rate", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Hit rate by how many experts of a layer fit: a line per policy, and what uniform routing gives LRU and LFU.

    Args:
        table: `tables.cache_simulation`.
        metric: "hit_rate" or "hit_rate_sequential".
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    shown, words = _of_layer(rows_of(table, metric, group), layer), words_of(metric)
    figure = go.Figure(null_line(_of_policy(shown, "lru"), "capacity", words.null))
    for policy, color in zip(dict.fromkeys(shown["policy"]), PALETTE, strict=False):
        own = _of_policy(shown, policy)
        figure.add_trace(
            line(own, "capacity", ("policy", "capacity"), words, color=color, name=POLICIES.get(policy, label(policy)))
        )
    figure.update_xaxes(title_text="experts of a layer that fit", showgrid=False, dtick=_step(shown["capacity"].max()))
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Expert cache, {_where(layer)}", subtitle(shown, _only(group)), height=400)


def placement_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Load of the busiest device over the mean, by the number of devices: without replicas, a line per placement.

    Args:
        table: `tables.placement_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    shown = _of_layer(rows_of(table[table["metric"].isin(list(PLACEMENT))], "rank_imbalance", group), layer)
    plain = shown["replicas"].min()
    figure = go.Figure(null_line(shown, "ranks", words_of("rank_imbalance").null))
    drawn = []
    for (metric, name), color in zip(PLACEMENT.items(), PALETTE, strict=False):
        own = _of_layer(rows_of(table, metric, group, replicas=plain), layer)
        words = words_of(metric)
        figure.add_trace(line(own, "ranks", ("ranks", "replicas"), words, color=color, name=name))
        drawn.append(own)
    figure.update_xaxes(title_text="devices", showgrid=False, tickvals=np.unique(shown["ranks"].to_numpy(float)))
    figure.update_yaxes(title_text="busiest device / mean")
    about = subtitle(pd.concat(drawn), _only(group))
    return finish(figure, f"Load of devices, {_where(layer)}", about, height=400)


def capacity_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Share of choices that experts of limited capacity drop, by the factor, and what uniform routing drops.

    Args:
        table: `tables.capacity_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    shown, words = _of_layer(rows_of(table, "dropped_share", group), layer), words_of("dropped_share")
    shown = shown[shown["bin"].isna().to_numpy(bool)]
    figure = go.Figure(null_line(shown, "capacity_factor", words.null))
    figure.add_trace(line(shown, "capacity_factor", ("capacity_factor",), words, color=ACCENT, name="as it is"))
    factors = np.unique(shown["capacity_factor"].to_numpy(float))
    figure.update_xaxes(title_text="capacity factor", showgrid=False, tickvals=factors)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Dropped choices, {_where(layer)}", subtitle(shown, _only(group)), height=400)


def skipping_simulation(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Share of tokens that would do without their last expert, by the threshold; each layer is a thin line behind.

    Args:
        table: `tables.skipping_simulation`.
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    shown, words = rows_of(table, "skipped_share", group), words_of("skipped_share")
    own, keys = _of_layer(shown, layer), ("layer", "threshold")
    figure = go.Figure()
    for number, (_, part) in enumerate(layers_of(with_layer(shown))):
        behind = line(part, "threshold", keys, words, color=FAINT, name="each layer", legend=number == 0)
        figure.add_trace(behind.update(mode="lines", line={"width": 1}, error_y={"visible": False}))
    figure.add_trace(null_line(own, "threshold", words.null))
    name = "all layers together" if layer is None else f"layer {layer}"
    figure.add_trace(line(own, "threshold", keys[layer is None :], words, color=ACCENT, name=name))
    thresholds = np.unique(own["threshold"].to_numpy(float))
    figure.update_xaxes(title_text="threshold: last weight / first", showgrid=False, tickvals=thresholds)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Skipped experts, {_where(layer)}", subtitle(own, _only(group)), height=400)


def weight_ratio(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """How much a token's last choice weighs against its first, layer by layer, and the line of logits all alike.

    Args:
        table: `tables.skipping_simulation`.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks the group.
    """
    each = with_layer(table)
    figure, height = along_layers(each, ("weight_ratio",), group, columns=1)
    figure.update_yaxes(range=[0, 1.03])
    about = subtitle(rows_of(each, "weight_ratio", group), others_behind(each, group))
    return finish(figure, "Weight of the last choice against the first", about, height=height)


def _of_layer(shown: pd.DataFrame, layer: int | None) -> pd.DataFrame:
    """The rows of one layer, or those about all together."""
    if layer is None:
        return shown[shown["layer"].isna().to_numpy(bool)]
    return rows_of(shown, str(shown["metric"].iloc[0]), layer=layer)


def _of_policy(shown: pd.DataFrame, policy: str) -> pd.DataFrame:
    return shown[(shown["policy"] == policy).to_numpy(bool)]


def _where(layer: int | None) -> str:
    return "all layers" if layer is None else f"layer {layer}"


def _only(group: str) -> str:
    return "" if group == "all" else f"group {group}"


def _step(most: int) -> int:
    return max(1, -(-int(most) // 10))
