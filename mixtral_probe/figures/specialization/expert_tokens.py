"""The tokens of an expert: `expert_tokens`."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.color import expert_colors
from mixtral_probe.figures.discoveries import finds_note, found, with_false_discovery
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.lines import DOTTED
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import group_note, hover, label, rows_of, subtitle
from mixtral_probe.tables.registry import metric_of

_PALE = 0.4


@of_table
def expert_tokens(table: pd.DataFrame, *, layer: int, expert: int, group: str = "all") -> go.Figure:
    """Draw the tokens an expert is chosen for most beyond its load: bars of lift, and the line of none.

    Bars with a false discovery rate of 5 % or more, or none, are pale where any of the table's has one.

    Args:
        table: `tables.expert_tokens`.
        layer: the layer.
        expert: the expert.
        group: one of its groups.

    Raises:
        InputError: the table has nothing about them.
    """
    rows = rows_of(table, "token_lift", group, layer=layer, expert=expert)
    rows = with_false_discovery(rows, table, ["layer", "group", "expert", "place"], "token_false_discovery")
    quantity, present = metric_of("token_lift"), rows[rows["value"].notna()]
    note = finds_note(present, "full colour")
    texts = [
        label(text) if pd.notna(text) else f"⟨id {number}⟩"
        for text, number in present[["token", "token_id"]].to_numpy()
    ]
    # Numbers place the bars and texts name them, for two tokens may look alike.
    y = np.arange(len(present))
    figure = go.Figure(
        go.Bar(
            x=present["estimate"].to_numpy(float),
            y=y,
            orientation="h",
            marker={
                "color": expert_colors(int(table["expert"].max()) + 1)[expert],
                "opacity": np.where(found(present), 1.0, _PALE) if note else 1.0,
            },
            showlegend=False,
            **hover(present.assign(token=texts), ("token_id", "expert", "layer"), quantity),
        )
    )
    figure.add_vline(x=1, line=DOTTED)
    figure.update_yaxes(tickvals=y, ticktext=texts, range=[len(present) - 0.4, -0.6], showgrid=False)
    figure.update_xaxes(title_text=quantity.label, rangemode="tozero")
    title, height = f"Tokens of expert {expert}, layer {layer}", 190 + 24 * max(len(present), 3)
    return finish(figure, title, subtitle(rows, " · ".join(filter(None, (group_note(group), note)))), height=height)
