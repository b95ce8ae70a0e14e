"""How much experts add: `saliency`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import LAYER_EXPERT, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def saliency(table: pd.DataFrame, *, metric: str = "reap", group: str = "all") -> go.Figure:
    """Draw layer × expert: how much each expert adds, a navigator like `expert_load_map`: customdata [layer, expert].

    Args:
        table: `tables.saliency`.
        metric: one of its metrics.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group.
    """
    title = f"Experts: {metric_of(metric).label}"
    return cell_map(rows_of(table, metric, group), metric, LAYER_EXPERT, title, centred=False)
