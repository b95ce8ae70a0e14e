"""How many experts two tokens have in common: `route_overlap`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.lines import DOTTED
from mixtral_probe.figures.theme import ACCENT, finish
from mixtral_probe.figures.words import hover, rows_of, subtitle, ticks
from mixtral_probe.tables.registry import metric_of


@of_table
def route_overlap(table: pd.DataFrame) -> go.Figure:
    """Draw how many experts two tokens have in common in each layer, with what chance gives dotted.

    Args:
        table: `tables.route_overlap`.

    Raises:
        InputError: the table is empty.
    """
    rows, quantity = rows_of(table[table["layer"].notna()], "shared_experts"), metric_of("shared_experts")
    places, shared, null = np.arange(len(rows)), rows["estimate"].to_numpy(float), rows["null"].to_numpy(float)
    texts = np.array([quantity.text(number) for number in shared], dtype=object)
    style = {"text": texts, "textposition": "outside", "marker": {"color": ACCENT}, "width": 0.6, "showlegend": False}
    bars = go.Bar(x=places, y=shared, **style, **hover(rows, ["layer"], quantity))
    chance = go.Scatter(
        x=places,
        y=null,
        mode="lines+markers",
        line=DOTTED,
        name=quantity.null,
        marker={"size": 4},
        hoverinfo="skip",
        showlegend=True,
    )
    figure = go.Figure([bars, chance])
    marks, names = ticks(rows["layer"])
    figure.update_xaxes(title_text="layer", tickvals=marks, ticktext=names, showgrid=False)
    most = max(1.0, float(np.nan_to_num(shared).max()), float(np.nan_to_num(null).max()))
    figure.update_yaxes(title_text=quantity.label, range=[0, 1.25 * most], dtick=1)
    return finish(figure, "Experts in common, layer by layer", subtitle(rows), height=300)
