"""How unevenly each layer uses its experts: `balance`."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import metric_panels, others_behind
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import subtitle

BALANCE = ("max_violation", "cv_squared", "normalized_entropy")
"""The metrics drawn by default."""


@of_table
def balance(table: pd.DataFrame, *, metrics: Sequence[str] = BALANCE, group: str = "all") -> go.Figure:
    """Draw how unevenly each layer uses its experts, with intervals where the metric has one and the null line.

    Args:
        table: `tables.balance`; its other groups are drawn as thin lines behind.
        metrics: some of its metrics, one panel each.
        group: the group drawn in full.

    Raises:
        InputError: the table lacks a metric or the group.
    """
    figure, height = metric_panels(table, metrics, group, columns=3)
    rows = table[table["metric"].isin(list(metrics)) & (table["group"] == group)]
    return finish(figure, "Balance by layer", subtitle(rows, others_behind(table, group)), height=height)
