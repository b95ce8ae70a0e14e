"""Heat maps whose cells can be clicked: load, balance-loss parts and attention heads."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.grid import FOOT, HEAD, panels, place
from mixtral_probe.figures.theme import SELECTED, finish
from mixtral_probe.figures.words import Words, hover, label, names_of, rows_of, subtitle, ticks, words_of

_DETAILED = 6000
"""Up to this many cells hover tells everything; above, key and value only, to keep the figure small."""


@dataclass(frozen=True)
class CellMap:
    """Which key of a table goes where in a map of cells."""

    x: str
    y: str
    facet: str
    cell: tuple[str, str]
    """The two keys a click returns first in `customdata`."""
    columns: int = 4
    cell_height: int = 22


def expert_load_map(table: pd.DataFrame, *, metric: str = "share", group: str = "all") -> go.Figure:
    """Layer × expert load, coloured by its distance from even use: a navigator.

    Over every cell lies an invisible square marker with customdata [layer, expert], so that clicks and box selection
    name cells.

    Args:
        table: `tables.expert_load`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    shown = rows_of(table, metric, group)
    return cell_map(shown, metric, LAYER_EXPERT, "Load by layer and expert", centred=True)


def expert_load_groups(table: pd.DataFrame, *, metric: str = "share", layer: int | None = None) -> go.Figure:
    """Group × expert load (domains, say), one panel per layer, coloured by the distance from even use.

    Args:
        table: `tables.expert_load` of statistics made with `by=`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer.
    """
    shown = rows_of(table, metric, layer=layer)
    way = CellMap("expert", "group", "layer", ("group", "expert"), cell_height=15 if layer is None else 22)
    return cell_map(shown, metric, way, "Load by group and expert", centred=True)


def balance_loss_breakdown(table: pd.DataFrame, *, metric: str = "excess", group: str | None = "all") -> go.Figure:
    """Layer × expert parts of the balance loss, coloured by the distance from balance.

    Args:
        table: `tables.balance_loss_breakdown`.
        metric: "contribution", "excess", "pooling_gap_groups" or "pooling_gap_layers".
        group: one of its groups; None for one panel per group.

    Raises:
        InputError: the table lacks that metric or group.
    """
    shown = rows_of(table, metric, group)
    way = (
        LAYER_EXPERT if group is not None else CellMap("expert", "layer", "group", ("layer", "expert"), cell_height=12)
    )
    return cell_map(shown, metric, way, f"Balance loss by layer and expert: {metric.replace('_', ' ')}", centred=True)


def agreement_experts(table: pd.DataFrame, *, group: str = "all") -> go.Figure:
    """Layer × expert: which experts gained and lost from the first trace to the second, a navigator like
    `expert_load_map`.

    Args:
        table: `tables.agreement`.
        group: one of its groups.

    Raises:
        InputError: the table lacks the group.
    """
    shown = rows_of(table, "share_change", group)
    return cell_map(shown, "share_change", LAYER_EXPERT, "Experts that gained and lost", centred=True)


def attention_summary(table: pd.DataFrame, *, metric: str = "entropy_bits", group: str = "all") -> go.Figure:
    """Layer × head overview of the attention, a navigator like `expert_load_map`: customdata [layer, head].

    Args:
        table: `tables.attention_summary`.
        metric: "entropy_bits", "distance" or "sink_share".
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group, or holds nothing because no attention was recorded.
    """
    shown = rows_of(table, metric, group)
    way = CellMap("head", "layer", "group", ("layer", "head"))
    return cell_map(shown, metric, way, f"Attention heads: {words_of(metric).name}", centred=False)


def attention_routing(table: pd.DataFrame, *, metric: str = "sink_share_effect", layer: int | None = None) -> go.Figure:
    """Head × expert: how differently the tokens sent to an expert look, a panel per layer; customdata [layer, head].

    Args:
        table: `tables.attention_routing`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or holds nothing because no maps were recorded.
    """
    shown = rows_of(table, metric, layer=layer)
    way = CellMap("expert", "head", "layer", ("layer", "head"))
    return cell_map(shown, metric, way, "Attention of the tokens sent to each expert", centred=True)


def timing_experts(table: pd.DataFrame, *, metric: str = "microseconds_per_row") -> go.Figure:
    """Layer × expert time or size of the batch, a navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.timing`.
        metric: one of its metrics that experts have, such as "milliseconds", "rows" or "peak_bytes".

    Raises:
        InputError: no expert has that metric.
    """
    experts = table[table["expert"].notna()].assign(group="all")
    return cell_map(rows_of(experts, metric), metric, LAYER_EXPERT, f"Experts: {words_of(metric).name}", centred=False)


_KEYS = ("layer", "group", "other_group", "expert", "other_expert", "head")
LAYER_EXPERT = CellMap("expert", "layer", "group", ("layer", "expert"))


def cell_map(shown: pd.DataFrame, metric: str, way: CellMap, title: str, *, centred: bool) -> go.Figure:
    """A heat map with a clickable marker over every cell, a panel for each value of the facet.

    Args:
        shown: the rows, one per cell.
        metric: theirs.
        way: which key goes where.
        title: of the figure.
        centred: whether colours diverge from the null.
    """
    words = words_of(metric)
    names = {axis: _values(shown, axis) for axis in (way.x, way.y, way.facet)}
    titles = [str(name) if way.facet == "group" else f"{way.facet} {name}" for name in names[way.facet]]
    size = len(names[way.y]) * way.cell_height
    figure, height = panels(titles, columns=way.columns, panel_height=max(size, 110))
    height += 26 if len(names[way.y]) < 6 else 0
    for number, name in enumerate(names[way.facet]):
        part = shown[(shown[way.facet] == name).to_numpy(dtype=bool)]
        at = place(number, titles, way.columns)
        for trace in _traces(part, names, way, words, brief=len(shown) > _DETAILED):
            figure.add_trace(trace, **at)
    _axes(figure, names, way, titles)
    figure.update_layout(
        coloraxis=_color_axis(shown, words, centred, height), clickmode="event+select", hoverdistance=-1
    )
    roles = {"coloraxis": "diverging" if centred else "sequential"}
    return finish(figure, title, subtitle(shown), height=height, roles=roles)


def _values(shown: pd.DataFrame, axis: str) -> list[object]:
    if axis == "group":
        return list(names_of(shown, axis))
    if axis == "other_group":
        return sorted(shown[axis].unique())
    found = sorted(int(value) for value in shown[axis].dropna().unique())
    return [*found, "all layers"] if shown[axis].isna().any() else list(found)


def _traces(
    part: pd.DataFrame, names: dict[str, list[object]], way: CellMap, words: Words, *, brief: bool
) -> tuple[go.Heatmap, go.Scatter]:
    """The heat map, and the invisible markers over it that plotly can select (a heat map's cells it cannot)."""
    x, y = (_index(part, axis, names[axis]) for axis in (way.x, way.y))
    z = np.full((len(names[way.y]), len(names[way.x])), np.nan)
    z[y, x] = part["value"].to_numpy(float)
    # Object arrays travel as plain lists: typed ones come back from a click as dictionaries.
    cells = part[list(way.cell)].astype(object).where(part[list(way.cell)].notna(), None).to_numpy()
    heat = go.Heatmap(z=z, coloraxis="coloraxis", xgap=1.5, ygap=1.5, hoverinfo="skip")
    overlay = go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={
            "symbol": "square-open",
            "size": way.cell_height - 3,
            "opacity": 0,
            "color": SELECTED,
            "line": {"width": 3},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0}},
        customdata=cells,
        hovertext=hover(part, [key for key in _KEYS if key in part], words, brief=brief),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    return heat, overlay


def _index(part: pd.DataFrame, axis: str, names: list[object]) -> np.ndarray:
    column = part[axis].astype(object).where(part[axis].notna(), "all layers")
    return column.map({name: number for number, name in enumerate(names)}).to_numpy(np.int64)


def _axes(figure: go.Figure, names: dict[str, list[object]], way: CellMap, titles: list[str]) -> None:
    across = min(way.columns, len(titles))
    for update, axis in ((figure.update_xaxes, way.x), (figure.update_yaxes, way.y)):
        most = 64 if axis.endswith("group") else 17 if len(titles) == 1 else 9
        places, texts = ticks(names[axis], most)
        update(tickvals=places, ticktext=texts, showgrid=False, range=[-0.5, len(names[axis]) - 0.5])
    figure.update_yaxes(range=[len(names[way.y]) - 0.5, -0.5])
    figure.update_xaxes(title_text=label(way.x.replace("_", " ")), row=-(-len(titles) // across))
    figure.update_yaxes(title_text=label(way.y.replace("_", " ")), col=1)


def _color_axis(shown: pd.DataFrame, words: Words, centred: bool, height: int) -> dict[str, object]:
    """The shared colour axis, centred on the null where there is one for all, which its bar then names.

    Of what cannot be negative the ends are 0 and twice the null; what lies beyond is drawn as the end."""
    null, value = shown["null"].dropna().unique(), shown["value"].to_numpy(float)
    length = min(height - HEAD - FOOT, 320)
    axis: dict[str, object] = {
        "colorbar": {
            "title": {"text": words.name, "side": "right"},
            "tickformat": words.format if "%" in words.format else None,
            "len": length,
            "lenmode": "pixels",
            "y": 1,
            "yanchor": "top",
        }
    }
    if centred and len(null) == 1:
        reach = float(np.nanmax(np.abs(value - null[0]), initial=0)) or 1.0
        if cut := 0 < null[0] < reach and np.nanmin(value) >= 0:
            reach = float(null[0])
        axis |= {"cmin": null[0] - reach, "cmax": null[0] + reach}
        marks = null[0] + reach * np.array([-1, -0.5, 0, 0.5, 1])
        texts = [words.text(mark) for mark in marks]
        texts[2] = f"{words.null} {texts[2]}"
        texts[-1] = f"≥ {texts[-1]}" if cut else texts[-1]
        axis["colorbar"] |= {"tickvals": marks, "ticktext": texts}  # type: ignore[operator]
    return axis
