"""How often each expert is the first, second, … choice: `load_by_rank`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.bars import by_layer, expert_bars, expert_panels, group_subtitle, layers_title
from mixtral_probe.figures.color import SERIES
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of
from mixtral_probe.tables.registry import metric_of


@of_table
def load_by_rank(table: pd.DataFrame, *, layer: int | None = None, group: str = "all") -> go.Figure:
    """Draw how often each expert is the first, second, … choice: bars side by side, strongest choice darkest.

    Args:
        table: `tables.load_by_rank`.
        layer: one layer; None for one panel per layer.
        group: one of its groups.

    Raises:
        InputError: the table lacks that layer or group.
    """
    rows, quantity = rows_of(table, "rank_share", group, layer=layer), metric_of("rank_share")
    figure, height = expert_panels(rows, quantity)
    ranks = sorted(int(rank) for rank in rows["rank"].unique())
    for number, (panel, part) in enumerate(by_layer(rows)):
        for rank in ranks:
            bars = expert_bars(
                part[part["rank"] == rank],
                quantity,
                name=f"choice {rank + 1} (rank {rank})",
                legendgroup=f"rank {rank}",
                showlegend=number == 0,
                marker_color=SERIES[rank % len(SERIES)],
            )
            figure.add_trace(bars, **panel)
    figure.update_layout(barmode="group")
    return finish(figure, layers_title("Load by rank", rows, layer), group_subtitle(rows, group), height=height)
