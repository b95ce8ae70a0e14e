"""How attention differs between the tokens of experts: `attention_routing`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of

_HEAD_EXPERT = CellMap("expert", "head", "layer", ("layer", "head"))


@of_table
def attention_routing(table: pd.DataFrame, *, metric: str = "sink_share_effect", layer: int | None = None) -> go.Figure:
    """Draw head × expert: how differently the tokens sent to an expert attend, a panel per layer.

    A navigator like `expert_load_map`: customdata [layer, head].

    Args:
        table: `tables.attention_routing`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or holds nothing because no maps were recorded.
    """
    rows = rows_of(table, metric, layer=layer)
    return cell_map(rows, metric, _HEAD_EXPERT, "Attention of the tokens sent to each expert", centred=True)
