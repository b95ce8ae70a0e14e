"""Heat maps whose cells can be clicked."""

from dataclasses import dataclass
from textwrap import wrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.discoveries import RATE, dots, finds_note
from mixtral_probe.figures.grid import FOOT, HEAD, panels, place
from mixtral_probe.figures.theme import SELECTED, finish
from mixtral_probe.figures.words import hover, label, names_of, percent_format, subtitle, ticks
from mixtral_probe.tables.registry import Metric, metric_of

_DETAILED = 6000
"""Up to this many cells hover has every number; above, key and estimate only, to keep the figure small."""
_TICK = 10
"""Characters in a line of the labelled tick of a colour bar."""
_KEYS = ("layer", "group", "other_group", "expert", "other_expert", "head")


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


LAYER_EXPERT = CellMap("expert", "layer", "group", ("layer", "expert"))
"""A map of experts, layer by layer."""
LAYER_EXPERT_OF_GROUPS = CellMap("expert", "layer", "group", ("layer", "expert"), cell_height=12)
"""The same with a panel for each group."""
PAIRS = CellMap("other_expert", "expert", "layer", ("expert", "other_expert"))
"""A map of pairs of experts, a panel per layer."""


def group_expert(layer: int | None) -> CellMap:
    """Return a map of experts, group by group, of one layer or with a panel for each."""
    return CellMap("expert", "group", "layer", ("group", "expert"), cell_height=15 if layer is None else 22)


def cell_map(rows: pd.DataFrame, metric: str, layout: CellMap, title: str, *, centred: bool) -> go.Figure:
    """Return a heat map with a clickable marker over every cell, a panel for each value of the facet.

    Args:
        rows: of `rows_of`, one per cell; with those of `with_false_discovery` the finds have dots.
        metric: theirs.
        layout: which key goes where.
        title: of the figure.
        centred: whether colours diverge from the null.
    """
    quantity = metric_of(metric)
    names = {axis: _values(rows, axis) for axis in (layout.x, layout.y, layout.facet)}
    titles = [str(name) if layout.facet == "group" else f"{layout.facet} {name}" for name in names[layout.facet]]
    size = len(names[layout.y]) * layout.cell_height
    figure, height = panels(titles, columns=layout.columns, panel_height=max(size, 110))
    height += 26 if len(names[layout.y]) < 6 else 0
    for number, name in enumerate(names[layout.facet]):
        part = rows[(rows[layout.facet] == name).to_numpy(dtype=bool)]
        panel = place(number, titles, layout.columns)
        for trace in _traces(part, names, layout, quantity, brief=len(rows) > _DETAILED):
            figure.add_trace(trace, **panel)
    _axes(figure, names, layout, titles)
    figure.update_layout(
        coloraxis=_color_axis(rows, quantity, centred, height), clickmode="event+select", hoverdistance=-1
    )
    roles = {"coloraxis": "diverging" if centred else "sequential"}
    return finish(figure, title, subtitle(rows, finds_note(rows, "dots")), height=height, roles=roles)


def _values(rows: pd.DataFrame, axis: str) -> list[object]:
    if axis == "group":
        return list(names_of(rows, axis))
    if axis == "other_group":
        return sorted(rows[axis].unique())
    numbers = sorted(int(value) for value in rows[axis].dropna().unique())
    return [*numbers, "all layers"] if rows[axis].isna().any() else list(numbers)


def _traces(
    part: pd.DataFrame, names: dict[str, list[object]], layout: CellMap, quantity: Metric, *, brief: bool
) -> list[go.Heatmap | go.Scatter]:
    """Return the heat map, dots if any, and invisible markers that plotly can select (a heat map's cells it cannot)."""
    x, y = (_index(part, axis, names[axis]) for axis in (layout.x, layout.y))
    z = np.full((len(names[layout.y]), len(names[layout.x])), np.nan)
    z[y, x] = part["estimate"].to_numpy(float)
    # Object arrays travel as plain lists: typed ones come back from a click as dictionaries.
    cells = part[list(layout.cell)].astype(object).where(part[list(layout.cell)].notna(), None).to_numpy()
    heat = go.Heatmap(z=z, coloraxis="coloraxis", xgap=1.5, ygap=1.5, hoverinfo="skip")
    markers = go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={
            "symbol": "square-open",
            "size": layout.cell_height - 3,
            "opacity": 0,
            "color": SELECTED,
            "line": {"width": 3},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0}},
        customdata=cells,
        showlegend=False,
        **hover(part, [key for key in _KEYS if key in part], quantity, brief=brief),
    )
    return [heat, *([dots(x, y, part)] if RATE in part else []), markers]


def _index(part: pd.DataFrame, axis: str, names: list[object]) -> np.ndarray:
    column = part[axis].astype(object).where(part[axis].notna(), "all layers")
    return column.map({name: number for number, name in enumerate(names)}).to_numpy(np.int64)


def _axes(figure: go.Figure, names: dict[str, list[object]], layout: CellMap, titles: list[str]) -> None:
    across = min(layout.columns, len(titles))
    for update, axis in ((figure.update_xaxes, layout.x), (figure.update_yaxes, layout.y)):
        most = 64 if axis.endswith("group") else 17 if len(titles) == 1 else 9
        places, texts = ticks(names[axis], most)
        update(tickvals=places, ticktext=texts, showgrid=False, range=[-0.5, len(names[axis]) - 0.5])
    figure.update_yaxes(range=[len(names[layout.y]) - 0.5, -0.5])
    figure.update_xaxes(title_text=label(layout.x.replace("_", " ")), row=-(-len(titles) // across))
    figure.update_yaxes(title_text=label(layout.y.replace("_", " ")), col=1)


def _color_axis(rows: pd.DataFrame, quantity: Metric, centred: bool, height: int) -> dict[str, object]:
    """Return the shared colour axis, centred on balance or else the null if all rows have one, which its bar names."""
    bar: dict[str, object] = {
        "title": {"text": quantity.label, "side": "right"},
        "tickformat": percent_format(quantity),
        "len": min(height - HEAD - FOOT, 320),
        "lenmode": "pixels",
        "y": 1,
        "yanchor": "top",
    }
    column, name = list(quantity.references(rows.columns).items())[-1]
    null = rows[column].dropna().unique()
    if not centred or len(null) != 1:
        return {"colorbar": bar}
    reach, cut = _reach(rows["estimate"].to_numpy(float), null[0])
    marks = null[0] + reach * np.array([-1, -0.5, 0, 0.5, 1])
    texts = [quantity.text(mark) for mark in marks]
    texts[2] = "<br>".join(wrap(f"{name} {texts[2]}", _TICK))  # a longer line would run into the title of the bar
    texts[-1] = f"≥ {texts[-1]}" if cut else texts[-1]
    colorbar = bar | {"tickvals": marks, "ticktext": texts}
    return {"colorbar": colorbar, "cmin": null[0] - reach, "cmax": null[0] + reach}


def _reach(estimates: np.ndarray, null: float) -> tuple[float, bool]:
    """Return how far colours go on both sides of the null, and whether what lies beyond is drawn as the end.

    Of what cannot be negative the ends are 0 and twice the null.
    """
    reach = float(np.nanmax(np.abs(estimates - null), initial=0)) or 1.0
    cut = bool(0 < null < reach and np.nanmin(estimates) >= 0)
    return (float(null) if cut else reach), cut
