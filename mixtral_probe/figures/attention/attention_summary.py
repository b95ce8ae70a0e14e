"""What the heads attend to on the whole: `attention_summary`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of

_LAYER_HEAD = CellMap("head", "layer", "group", ("layer", "head"))


@of_table
def attention_summary(table: pd.DataFrame, *, metric: str = "entropy_bits", group: str = "all") -> go.Figure:
    """Draw layer × head overview of the attention, a navigator like `expert_load_map`: customdata [layer, head].

    Args:
        table: `tables.attention_summary`.
        metric: "entropy_bits", "distance" or "sink_share".
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric or group, or holds nothing because no attention was recorded.
    """
    title = f"Attention heads: {metric_of(metric).label}"
    return cell_map(rows_of(table, metric, group), metric, _LAYER_HEAD, title, centred=False)
