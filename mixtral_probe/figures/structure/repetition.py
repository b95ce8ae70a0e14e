"""Whether tokens near each other go to the same experts: `repetition`, `repetition_lags`."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.color import PALETTE
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import panels, place
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.lines import line, null_line
from mixtral_probe.figures.theme import ACCENT, finish
from mixtral_probe.figures.words import rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

REPETITION = ("repetition_first", "repetition_any", "overlap")
"""The metrics drawn."""
_SHUFFLED = PALETTE[1]


@of_table
def repetition(table: pd.DataFrame, *, lag: int = 1, group: str = "all") -> go.Figure:
    """Draw how often tokens `lag` apart go to the same experts, layer by layer, and two tokens with these loads.

    Args:
        table: `tables.repetition`.
        lag: how many tokens apart.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks the lag or the group.
    """
    lag = int(rows_of(table, REPETITION[0], lag=lag)["lag"].iloc[0])
    figure, height = metric_panels(table[table["lag"] == lag], REPETITION, group, columns=3)
    rows = table[((table["lag"] == lag) & (table["group"] == group) & table["metric"].isin(REPETITION)).to_numpy(bool)]
    title = f"Repetition, {lag} token{'s' if lag > 1 else ''} apart"
    return finish(figure, title, subtitle(rows, others_behind(table, group)), height=height)


@of_table
def repetition_lags(table: pd.DataFrame, *, layer: int, group: str = "all") -> go.Figure:
    """Draw repetition by how far apart two tokens are, and what a shuffle of each document's tokens leaves of it.

    Args:
        table: `tables.repetition`.
        layer: the layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks the layer or the group.
    """
    titles = [metric_of(name).label for name in REPETITION]
    figure, height = panels(titles, columns=3, panel_height=210, share=False, gap=80)
    for number, name in enumerate(REPETITION):
        cell = place(number, titles, 3)
        for trace in _by_lag(table, name, group, layer, legend=number == 0):
            figure.add_trace(trace, **cell)
        figure.update_yaxes(tickformat=".0%", rangemode="tozero", **cell)
    figure.update_xaxes(title_text="tokens apart", showgrid=False, dtick=1)
    rows = table[((table["layer"] == layer) & (table["group"] == group)).fillna(False).to_numpy(bool)]
    title = f"Repetition by distance, layer {layer}"
    return finish(figure, title, group_subtitle(rows, group), height=height)


def _by_lag(table: pd.DataFrame, metric: str, group: str, layer: int, *, legend: bool) -> list[go.Scatter]:
    """Return the null line, the line of shuffled tokens where the table has it, and that of the metric."""
    rows, quantity, keys = rows_of(table, metric, group, layer=layer), metric_of(metric), ("lag", "layer", "group")
    traces = [null_line(rows, "lag", quantity.null, legend=legend)]
    shuffled = table[(table["metric"] == f"{metric}_shuffled").to_numpy(bool)]
    if len(shuffled):
        part = rows_of(shuffled, f"{metric}_shuffled", group, layer=layer)
        style: dict[str, Any] = {"color": _SHUFFLED, "name": "tokens shuffled", "legend": legend}
        traces.append(line(part, "lag", keys, quantity, **style))
    return [*traces, line(rows, "lag", keys, quantity, color=ACCENT, name="as it is", legend=legend)]
