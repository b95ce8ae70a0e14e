"""What the figures of simulations share: rows of one layer or of all, their title, lines with two nulls."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.lines import line, reference_lines
from mixtral_probe.figures.theme import ACCENT
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


def of_layer(rows: pd.DataFrame, layer: int | None) -> pd.DataFrame:
    """Return the rows of one layer, or those about all together.

    Raises:
        InputError: there is no such layer.
    """
    if layer is None:
        return rows[rows["layer"].isna().to_numpy(bool)]
    return rows_of(rows, str(rows["metric"].iloc[0]), layer=layer)


def layer_name(layer: int | None) -> str:
    """Return what a title calls one layer or all."""
    return "all layers" if layer is None else f"layer {layer}"


def simulated_lines(
    rows: pd.DataFrame, x: str, keys: Sequence[str], *, name: str, legend: bool = True
) -> list[go.Scatter]:
    """Return uniform routing dotted, the same tokens in random order dashed, and the values, along the column `x`.

    Args:
        rows: of `rows_of`, of one metric; a table of an earlier version has one null.
        x: the column.
        keys: what the tooltip names.
        name: of the line of values, which the legend leaves out.
        legend: whether the nulls are in the legend.
    """
    quantity = metric_of(str(rows["metric"].iloc[0]))
    main = line(rows, x, keys, quantity, color=ACCENT, name=name, legend=False)
    return [*reference_lines(rows, x, quantity, legend=legend), main]


def simulated_panels(
    parts: Mapping[str, pd.DataFrame], x: str, keys: Sequence[str], *, columns: int, panel_height: int
) -> tuple[go.Figure, int]:
    """Return a panel with `simulated_lines` for each part, on one scale, and the figure's height in pixels.

    Args:
        parts: title and rows of each panel.
        x, keys: as there.
        columns, panel_height: as in `panels`.
    """
    figure, height = panels([*parts], columns=columns, panel_height=panel_height)
    for number, (name, rows) in enumerate(parts.items()):
        for trace in simulated_lines(rows, x, keys, name=name, legend=number == 0):
            figure.add_trace(trace, **place(number, parts, columns))
    return figure, height
