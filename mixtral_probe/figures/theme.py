"""The one look of all figures, on a light and on a dark page."""

from functools import cache
from typing import Any

import plotly.graph_objects as go

from mixtral_probe.figures.color import PALETTE, scales

ACCENT = PALETTE[0]
REFERENCE = "#808b96"
"""Null and balance lines: seen on white and on near-black alike."""
FAINT = "rgba(128,139,150,0.4)"
"""Lines in the background, transparent by colour: many traces, each with an opacity, would stain a dark page."""
SELECTED = "#ff2e93"
"""The frame around what was clicked: on no scale and in no palette, seen on every cell and page."""
FONT = "Inter, 'Source Sans 3', 'Source Sans Pro', 'Helvetica Neue', Helvetica, Arial, sans-serif"
_INK = {False: ("#1d2630", "#5a6773", "#e4e8ec", "#ffffff"), True: ("#e8ecf0", "#a3afba", "#2c343d", "#1a2027")}
_CLEAR = "rgba(0,0,0,0)"


CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "plotlyServerURL": "",
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "select2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    "toImageButtonOptions": {"format": "svg"},
}
"""Plotly's options for every page with a figure. The buttons are named one by one because plotly's own list has
one that sends the chart to a server."""


@cache
def template(dark: bool = False) -> go.layout.Template:
    """Return the plotly template: transparent; text legible on a light or (`dark`) dark page.

    Cached, because plotly copies it into each figure.
    """
    ink, muted, grid, card = _INK[dark]
    whisker = {"color": ink, "thickness": 1.4, "width": 0}
    layout = go.Layout(
        font={"family": FONT, "size": 13, "color": ink},
        title=_title(ink, muted),
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        colorway=list(PALETTE),
        margin={"l": 64, "r": 24, "t": 104, "b": 56},
        xaxis=_axis(muted, grid),
        yaxis=_axis(muted, grid),
        legend={"orientation": "h", "x": 1, "xanchor": "right", "yref": "container", "y": 0.995, "yanchor": "top"},
        hoverlabel={"bgcolor": card, "bordercolor": grid, "font": {"size": 12.5, "color": ink}, "align": "left"},
        annotationdefaults={"font": {"size": 12, "color": muted}, "showarrow": False},
        coloraxis={
            "colorbar": {"thickness": 12, "outlinewidth": 0, "ticks": "", "tickfont": {"size": 11, "color": muted}}
        },
        modebar={"bgcolor": _CLEAR, "color": muted, "activecolor": ink},
    )
    data = {
        "bar": [go.Bar(error_x=whisker, error_y=whisker)],
        "scatter": [go.Scatter(error_x=whisker, error_y=whisker)],
    }
    return go.layout.Template(layout=layout, data=data)


def _title(ink: str, muted: str) -> dict[str, Any]:
    place = {"x": 0, "xanchor": "left", "xref": "container", "y": 1, "yanchor": "top", "yref": "container"}
    subtitle = {"font": {"size": 12.5, "color": muted}}
    return {"font": {"size": 18, "color": ink}, "subtitle": subtitle, "pad": {"t": 10}, **place}


def _axis(muted: str, grid: str) -> dict[str, Any]:
    title = {"font": {"size": 13, "color": muted}, "standoff": 8}
    lines = {"gridcolor": grid, "linecolor": grid, "zeroline": False, "ticks": ""}
    return {"tickfont": {"size": 12, "color": muted}, "title": title, "automargin": True, **lines}


def themed(figure: go.Figure, dark: bool = False) -> go.Figure:
    """Return a figure for a light or (`dark`) dark page: a copy with that template and those colour scales.

    A figure notes in `layout.meta["scales"]` which role of `figures.color.scales` each of its colour axes plays.
    """
    return _dress(go.Figure(figure), dark)


def _dress(figure: go.Figure, dark: bool) -> go.Figure:
    chosen = scales(dark)
    roles = (figure.layout.meta or {}).get("scales", {})
    return figure.update_layout(
        template=template(dark), **{axis: {"colorscale": chosen[role]} for axis, role in roles.items()}
    )


def finish(
    figure: go.Figure, title: str, subtitle: str, *, height: int, roles: dict[str, str] | None = None
) -> go.Figure:
    """Give a figure its title, height, light theme and the roles of its colour axes. Returns the figure."""
    figure.update_layout(
        title={"text": title, "subtitle": {"text": subtitle}}, height=height, meta={"scales": roles or {}}
    )
    return _dress(figure, dark=False)
