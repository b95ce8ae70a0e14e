"""The parts of experts in the balance loss: `balance_loss_breakdown`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, LAYER_EXPERT_OF_GROUPS, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of


@of_table
def balance_loss_breakdown(table: pd.DataFrame, *, metric: str = "excess", group: str | None = "all") -> go.Figure:
    """Draw layer × expert parts of the balance loss, coloured by the distance from balance.

    Args:
        table: `tables.balance_loss_breakdown`.
        metric: "contribution", "excess", "pooling_gap_groups" or "pooling_gap_layers".
        group: one of its groups; None for one panel per group.

    Raises:
        InputError: the table lacks that metric or group.
    """
    rows, layout = rows_of(table, metric, group), LAYER_EXPERT if group is not None else LAYER_EXPERT_OF_GROUPS
    title = f"Balance loss by layer and expert: {metric.replace('_', ' ')}"
    return cell_map(rows, metric, layout, title, centred=True)
