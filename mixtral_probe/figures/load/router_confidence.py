"""How sure the router is in each layer: `router_confidence`."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import place
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle

CONFIDENCE = ("router_entropy", "top1_probability", "topk_mass", "selection_margin")
"""The metrics drawn by default."""


@of_table
def router_confidence(table: pd.DataFrame, *, metrics: Sequence[str] = CONFIDENCE, group: str = "all") -> go.Figure:
    """Draw how sure the router is in each layer: mean with interval, the middle half of the tokens as a band.

    Args:
        table: `tables.router_confidence`.
        metrics: some of its metrics, one panel each.
        group: the group drawn in full; the means of the others are thin lines behind.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    means = table[table["statistic"] == "mean"]
    figure, height = metric_panels(means, metrics, group, columns=2)
    for number, metric in enumerate(metrics):
        rows = rows_of(table, metric, group)
        low, high = (rows[rows["statistic"] == name] for name in ("q25", "q75"))
        for band in _band(low, high, legend=number == 0):
            figure.add_trace(band, **place(number, metrics, 2))
    rows = means[means["metric"].isin(list(metrics)) & (means["group"] == group)]
    return finish(figure, "Router confidence by layer", subtitle(rows, others_behind(table, group)), height=height)


def _band(low: pd.DataFrame, high: pd.DataFrame, *, legend: bool) -> list[go.Scatter]:
    """Return the lower edge without a line, and the upper edge filled down to it."""
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band"}
    fill = {"fill": "tonexty", "fillcolor": "rgba(33,114,176,0.16)"}
    x, bottom, top = (rows.to_numpy(float) for rows in (low["layer"], low["estimate"], high["estimate"]))
    return [
        go.Scatter(x=x, y=bottom, showlegend=False, **edge),
        go.Scatter(x=x, y=top, name="middle half of the tokens", showlegend=legend, **fill, **edge),
    ]
