"""Differences of groups, layers and slices: `group_differences`, `layer_differences`, `difference_bars`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import bars
from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import ACCENT, REFERENCE, finish
from mixtral_probe.figures.words import hover, percent_format, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

_GROUPS = CellMap("other_group", "group", "layer", ("group", "other_group"), columns=3)
_LAYERS = CellMap("other_layer", "layer", "group", ("layer", "other_layer"), columns=3)


@of_table
def group_differences(
    table: pd.DataFrame, *, metric: str = "cv_squared_difference", layer: int | None = None
) -> go.Figure:
    """Draw group × group: by how much the one across is above the one down, a panel per layer.

    Args:
        table: `tables.group_differences`.
        metric: one of its metrics with a value for each layer.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or is empty because there are no two groups.
    """
    rows = _both_ways(rows_of(table, metric, layer=layer), "group", "other_group")
    return cell_map(rows, metric, _GROUPS, f"Between groups: {metric_of(metric).label}", centred=True)


@of_table
def layer_differences(
    table: pd.DataFrame, *, metric: str = "cv_squared_difference", group: str | None = "all"
) -> go.Figure:
    """Draw layer × layer: by how much the one across is above the one down.

    Args:
        table: `tables.layer_differences`.
        metric: one of its metrics.
        group: one of its groups; None for a panel of each.

    Raises:
        InputError: the table lacks that metric or group, or is empty because there is one layer.
    """
    rows = _both_ways(rows_of(table, metric, group), "layer", "other_layer")
    return cell_map(rows, metric, _LAYERS, f"Between layers: {metric_of(metric).label}", centred=True)


def _both_ways(rows: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Return each pair twice, the second time the other way round."""
    turned = rows.rename(columns={one: other, other: one})[list(rows.columns)]
    turned[["value", "corrected", "estimate"]] *= -1
    turned[["low", "high"]] = -turned[["high", "low"]].to_numpy()
    return pd.concat([rows, turned], ignore_index=True).sort_values([one, other])


@of_table
def difference_bars(rows: pd.DataFrame, *, metric: str, title: str, layer: int | None = None) -> go.Figure:
    """Draw the differences of one pair with their intervals: by layer, or by expert of one layer.

    Args:
        rows: of one pair of groups in `tables.group_differences`, or `tables.slice_differences`.
        metric: one of its metrics.
        title: names the pair.
        layer: the layer of a metric of experts; None for a metric of layers.

    Raises:
        InputError: the table lacks that metric or layer.
    """
    rows, quantity = rows_of(rows, metric, layer=layer), metric_of(metric)
    axis = "layer" if layer is None else "expert"
    figure = go.Figure(bars(rows, axis, hover(rows, [axis], quantity), marker_color=ACCENT, showlegend=False))
    figure.add_hline(0, line={"color": REFERENCE, "dash": "dot", "width": 1.6})
    figure.update_xaxes(title_text=axis, showgrid=False, dtick=1 if len(rows) < 17 else None)
    figure.update_yaxes(title_text=quantity.label, tickformat=percent_format(quantity))
    return finish(figure, title, subtitle(rows), height=380)
