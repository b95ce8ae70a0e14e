"""How well some experts of a layer make its output by themselves: `expert_subsets`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.grid import FOOT, HEAD
from mixtral_probe.figures.lines import layers_of, null_line
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import hover, rows_of, subtitle, words_of

_OTHERS, _BEST = "#808b96", "#2172b0"


def expert_subsets(table: pd.DataFrame, *, size: int | None = None) -> go.Figure:
    """Layer by layer the error of every subset of experts, the best one marked, beside the mean of all so large.

    Args:
        table: `tables.expert_subsets`.
        size: how many experts are kept, one of its sizes; None for the largest that leaves somebody out.

    Raises:
        InputError: the table lacks that size.
    """
    every = rows_of(table, "subset_error")
    shown = rows_of(every, "subset_error", size=_size(every) if size is None else size)
    words, kept = words_of("subset_error"), int(shown["size"].iloc[0])
    layers = [part for _, part in layers_of(shown)]
    best = pd.concat([part[part["value"] == part["value"].min()].head(1) for part in layers])
    figure = go.Figure()
    for name, part, color, width in (("a subset", shown, _OTHERS, 5), ("the best", best, _BEST, 10)):
        figure.add_trace(
            go.Scatter(
                x=part["layer"].to_numpy(np.int64),
                y=part["value"].to_numpy(float),
                mode="markers",
                marker={"color": color, "size": width, "opacity": 0.5 if part is shown else 1},
                name=name,
                hovertext=hover(part, ("layer", "subset"), words),
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    figure.add_trace(null_line(best, "layer", words.null))
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="layer", dtick=1 if len(layers) <= 16 else None, showgrid=False)
    figure.update_yaxes(title_text=words.name, tickformat=".0%", rangemode="tozero")
    title = f"Output of a layer from {kept} of its experts"
    return finish(figure, title, subtitle(shown), height=HEAD + FOOT + 260)


def _size(table: pd.DataFrame) -> int:
    """The largest with more than one subset, so that there is a choice."""
    several = [int(size) for size, part in table.groupby("size") if part["subset"].nunique() > 1]
    return max(several, default=int(table["size"].max()))
