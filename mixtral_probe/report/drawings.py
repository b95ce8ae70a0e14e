"""The figures that stand in the section of a table, as its SPEC declares them."""

import pandas as pd
import plotly.graph_objects as go

from mixtral_probe import figures
from mixtral_probe.tables import TableSpec


def draw(spec: TableSpec, table: pd.DataFrame) -> list[go.Figure]:
    """Return the figures of a table; none for a table without a value."""
    values = table.get("value", table)
    if not len(values) or not values.notna().to_numpy().any():
        return []
    return [
        getattr(figures, drawing.figure)(table, **options)
        for drawing in spec.figures
        for options in drawing.options_of(table)
    ]
