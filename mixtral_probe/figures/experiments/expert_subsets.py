"""How well some experts of a layer make its output by themselves: `expert_subsets`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.lines import layers_of, null_line
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, rows_of, subtitle
from mixtral_probe.tables.registry import Metric, metric_of

_OTHERS = {"color": "#808b96", "size": 5, "opacity": 0.5}
_BEST = {"color": "#2172b0", "size": 10, "opacity": 1}


@of_table
def expert_subsets(table: pd.DataFrame, *, size: int | None = None) -> go.Figure:
    """Draw layer by layer the error of every subset of experts, the best one marked, and the mean of all as large.

    Args:
        table: `tables.expert_subsets`.
        size: how many experts are kept, one of its sizes; None for the largest that leaves an expert out.

    Raises:
        InputError: the table lacks that size.
    """
    every, quantity = rows_of(table, "subset_error"), metric_of("subset_error")
    rows = rows_of(every, "subset_error", size=_size(every) if size is None else size)
    layers = [part for _, part in layers_of(rows)]
    best = pd.concat([part[part["estimate"] == part["estimate"].min()].head(1) for part in layers])
    marks = [_marks(rows, quantity, "a subset", _OTHERS), _marks(best, quantity, "the best", _BEST)]
    figure = go.Figure([*marks, null_line(best, "layer", quantity.null)])
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="layer", dtick=1 if len(layers) <= 16 else None, showgrid=False)
    figure.update_yaxes(title_text=quantity.label, tickformat=".0%", rangemode="tozero")
    title = f"Output of a layer from {int(rows['size'].iloc[0])} of its experts"
    return finish(figure, title, subtitle(rows), height=HEAD + FOOT + 260)


def _marks(rows: pd.DataFrame, quantity: Metric, name: str, marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        x=rows["layer"].to_numpy(np.int64),
        y=rows["estimate"].to_numpy(float),
        mode="markers",
        marker=marker,
        name=name,
        **hover(rows, ("layer", "subset"), quantity),
    )


def _size(table: pd.DataFrame) -> int:
    """Return the largest size with more than one subset, so that there is a choice."""
    several = [int(size) for size, part in table.groupby("size") if part["subset"].nunique() > 1]
    return max(several, default=int(table["size"].max()))
