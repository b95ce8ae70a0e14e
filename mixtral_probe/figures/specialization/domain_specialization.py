"""How groups of documents use experts: `domain_specialization`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import cell_map, group_expert
from mixtral_probe.figures.discoveries import with_false_discovery
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of


@of_table
def domain_specialization(
    table: pd.DataFrame, *, metric: str = "frequency_difference", layer: int | None = None
) -> go.Figure:
    """Draw group × expert: how much more or less a group uses an expert than all do, a panel per layer.

    A navigator like `expert_load_map`: customdata [group, expert]. Dots are on cells with a false discovery rate
    below 5 %.

    Args:
        table: `tables.domain_specialization`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or is empty because documents have no label.
    """
    rows = with_false_discovery(rows_of(table, metric, layer=layer), table, ["layer", "group", "expert"])
    return cell_map(rows, metric, group_expert(layer), "Use of experts by group, against all", centred=True)
