"""How far apart groups of documents are: `group_divergence`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.cells import CellMap, cell_map
from mixtral_probe.figures.discoveries import with_false_discovery
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of

_LAYOUT = CellMap("other_group", "group", "layer", ("group", "other_group"), columns=3)


@of_table
def group_divergence(table: pd.DataFrame, *, metric: str = "js_divergence_bits", layer: int | None = None) -> go.Figure:
    """Draw group × group: how far apart two groups are, a panel per layer; customdata [group, other_group].

    Dots are on pairs whose divergence has a false discovery rate below 5 %.

    Args:
        table: `tables.group_divergence`.
        metric: one of its metrics.
        layer: one layer; None for all.

    Raises:
        InputError: the table lacks that metric or layer, or is empty because there are no two groups.
    """
    rows = with_false_discovery(rows_of(table, metric, layer=layer), table, ["layer", "group", "other_group"])
    turned = rows.rename(columns={"group": "other_group", "other_group": "group"})
    both = pd.concat([rows, turned[list(rows.columns)]], ignore_index=True).sort_values(["group", "other_group"])
    return cell_map(both, metric, _LAYOUT, f"Distance between groups: {metric_of(metric).label}", centred=False)
