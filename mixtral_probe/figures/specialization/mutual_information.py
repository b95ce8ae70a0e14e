"""What topic, position and token tell about the expert: `mutual_information`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.errors import InputError
from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import others_behind, variable_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle

_VARIABLES = ("domain", "domain|token", "position", "token", "next token", "predicted token")


@of_table
def mutual_information(
    table: pd.DataFrame, *, metric: str = "mutual_information_bits_corrected", group: str = "all"
) -> go.Figure:
    """Draw the information of topic, position and token about the expert, layer by layer, a panel each.

    Args:
        table: `tables.mutual_information`.
        metric: one of its metrics.
        group: the group drawn in full; topics are compared in group "all" alone.

    Raises:
        InputError: the table lacks the metric, or the group says nothing about any variable.
    """
    rows = rows_of(table, metric)
    of_group = rows[(rows["group"] == group).to_numpy(dtype=bool) & rows["value"].notna().to_numpy(dtype=bool)]
    names = [name for name in _VARIABLES if name in set(of_group["variable"])]
    if not names:
        raise InputError(f"group must be one with a value of {metric}, got {group!r}")
    parts = {name: rows[(rows["variable"] == name).to_numpy(dtype=bool)] for name in names}
    figure, height = variable_panels(parts, metric, group, columns=2, panel_height=190, share=False, gap=80)
    drawn = of_group[of_group["variable"].isin(names).to_numpy(dtype=bool)]
    return finish(figure, "What tells about the expert", subtitle(drawn, others_behind(rows, group)), height=height)
