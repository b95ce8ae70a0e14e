"""What a token and its neighbours tell about the expert: `context_information`."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.figures.given import of_table
from mixtral_probe.figures.layer_panels import others_behind, variable_panels
from mixtral_probe.figures.theme import finish
from mixtral_probe.figures.words import rows_of, subtitle

_CONTEXT = {
    "token": "the token",
    "previous token": "the token before",
    "previous token|token": "the token before, beyond the token itself",
    "next token": "the token that follows",
    "predicted token": "the token predicted",
}
_ORDER = {name: number for number, name in enumerate(_CONTEXT)}


def frequent_types(table: pd.DataFrame, group: str) -> int:
    """Return the largest `min_count` with values of a group, which has intervals; 1 where all types are rare."""
    rows = table[((table["group"] == group) & table["value"].notna()).to_numpy(bool)]
    return int(rows["min_count"].max()) if len(rows) else 1


@of_table
def context_information(
    table: pd.DataFrame,
    *,
    metric: str = "mutual_information_bits_corrected",
    min_count: int | None = None,
    group: str = "all",
) -> go.Figure:
    """Draw the information of a token and the one before it about the expert, layer by layer on one scale, and chance.

    Args:
        table: `tables.context_information`.
        metric: one of its metrics.
        min_count: least number of tokens of a type, of those the table has; above 1 there are intervals. None for
            `frequent_types`: of the information that every type tells, much is chance.
        group: the group drawn in full; the others are thin lines behind.

    Raises:
        InputError: the table lacks one of them.
    """
    rows = rows_of(table, metric, min_count=frequent_types(table, group) if min_count is None else min_count)
    present = rows[rows["value"].notna()]
    names = (present if len(present) else rows)["variable"].unique()
    names = sorted(names, key=lambda name: _ORDER.get(name, len(_ORDER)))
    parts = {_CONTEXT.get(name, name): rows[(rows["variable"] == name).to_numpy(dtype=bool)] for name in names}
    figure, height = variable_panels(parts, metric, group, columns=3)
    about = subtitle(rows_of(rows, metric, group), others_behind(rows, group))
    return finish(figure, "What a token and its neighbours tell about the expert", about, height=height)
