"""How alike experts are: `expert_similarity`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import PAIRS, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def expert_similarity(
    table: pd.DataFrame, *, metric: str = "weight_cosine", layer: int | None = None
) -> go.Figure:  # fmt: skip
    """Draw expert × expert: how alike they are, a panel per layer; customdata [expert, other_expert].

    Args:
        table: `tables.expert_similarity`.
        metric: one of its metrics that pairs of experts have.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer.
    """
    title = f"Pairs of experts: {metric_of(metric).label}"
    return cell_map(rows_of(table, metric, layer=layer), metric, PAIRS, title, centred=True)
