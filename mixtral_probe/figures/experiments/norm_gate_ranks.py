"""Whether the router prefers long outputs: `norm_gate_ranks`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of

_RANKS = CellMap("norm_rank", "gate_rank", "layer", ("gate_rank", "norm_rank"))


@of_table
def norm_gate_ranks(table: pd.DataFrame, *, layer: int | None = None) -> go.Figure:
    """Draw place in the router's order × place by output length, a panel per layer; customdata [gate_rank, norm_rank].

    Args:
        table: `tables.norm_gate_ranks`.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that layer.
    """
    rows = rows_of(table, "rank_share", layer=layer)
    return cell_map(rows, "rank_share", _RANKS, "Does the router prefer long outputs?", centred=True)
