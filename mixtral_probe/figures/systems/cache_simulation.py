"""How often an expert is in a cache of experts: `cache_simulation`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.systems.simulated import layer_name, of_layer, simulated_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of
from mixtral_probe.tables.registry import metric_of

POLICIES = {"belady": "Belady", "lfu": "LFU", "lru": "LRU", "static": "static: the busiest"}
"""What policies are called over their panels."""
_COLUMNS = 2


@of_table
def cache_simulation(
    table: pd.DataFrame, *, metric: str = "hit_rate", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Draw hit rate by how many experts of a layer fit: a panel per policy, with its own nulls.

    Args:
        table: `tables.cache_simulation`.
        metric: "hit_rate" or "hit_rate_sequential".
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    rows, quantity = of_layer(rows_of(table, metric, group), layer), metric_of(metric)
    parts = {
        POLICIES.get(policy, label(policy)): rows[(rows["policy"] == policy).to_numpy(bool)]
        for policy in dict.fromkeys(rows["policy"])
    }
    figure, height = simulated_panels(parts, "capacity", ("policy", "capacity"), columns=_COLUMNS, panel_height=150)
    step = max(1, -(-int(rows["capacity"].max()) // 10))
    figure.update_xaxes(showgrid=False, dtick=step)
    figure.update_xaxes(title_text="experts of a layer that fit", row=-(-len(parts) // _COLUMNS))
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=6)
    figure.update_yaxes(title_text=quantity.label, col=1)
    return finish(figure, f"Expert cache, {layer_name(layer)}", group_subtitle(rows, group), height=height)
