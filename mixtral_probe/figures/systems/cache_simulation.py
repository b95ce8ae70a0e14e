"""How often an expert is in a cache of experts: `cache_simulation`."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import group_subtitle
from mixtral_probe.figures.color import PALETTE
from mixtral_probe.figures.lines import line, null_line
from mixtral_probe.figures.systems.simulated import layer_name, of_layer
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import label, rows_of
from mixtral_probe.tables.registry import metric_of

POLICIES = {"belady": "Belady", "lfu": "LFU", "lru": "LRU", "static": "static: the busiest"}
"""What policies are called in the legend."""


def cache_simulation(
    table: pd.DataFrame, *, metric: str = "hit_rate", layer: int | None = None, group: str = "all"
) -> go.Figure:
    """Draw hit rate by how many experts of a layer fit: a line per policy, and uniform routing under LRU and LFU.

    Args:
        table: `tables.cache_simulation`.
        metric: "hit_rate" or "hit_rate_sequential".
        layer: one layer; None for all together.
        group: one of its groups.

    Raises:
        InputError: the table lacks that metric, layer or group.
    """
    rows, quantity = of_layer(rows_of(table, metric, group), layer), metric_of(metric)
    figure = go.Figure(null_line(_of_policy(rows, "lru"), "capacity", quantity.null))
    for policy, color in zip(dict.fromkeys(rows["policy"]), PALETTE, strict=False):
        style: dict[str, Any] = {"color": color, "name": POLICIES.get(policy, label(policy))}
        figure.add_trace(line(_of_policy(rows, policy), "capacity", ("policy", "capacity"), quantity, **style))
    step = max(1, -(-int(rows["capacity"].max()) // 10))
    figure.update_xaxes(title_text="experts of a layer that fit", showgrid=False, dtick=step)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    return finish(figure, f"Expert cache, {layer_name(layer)}", group_subtitle(rows, group), height=400)


def _of_policy(rows: pd.DataFrame, policy: str) -> pd.DataFrame:
    return rows[(rows["policy"] == policy).to_numpy(bool)]
