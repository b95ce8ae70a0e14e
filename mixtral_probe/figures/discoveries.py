"""What tests say about the values of a figure: false discovery rates in tooltips, finds with dots or in full colour."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mixtral_probe.tables.registry import metric_of

RATE = "false_discovery"
"""The column of `with_false_discovery`."""
_METRIC, _LEVEL = "shuffle_false_discovery", 0.05


def with_false_discovery(
    rows: pd.DataFrame, table: pd.DataFrame, keys: list[str], metric: str = _METRIC
) -> pd.DataFrame:
    """Return rows with the false discovery rate that the table has for their keys; missing where it has none.

    Args:
        rows: of `rows_of`.
        table: theirs; one of an older version has no such rates.
        keys: the columns that name a row.
        metric: the name of the rates.
    """
    rates = table[(table["metric"] == metric).to_numpy(dtype=bool)][[*keys, "value"]]
    return rows.merge(rates.rename(columns={"value": RATE}), on=keys, how="left")


def rate_line(rate: float) -> str:
    """Return the line of a tooltip about a rate; empty where there is none."""
    quantity = metric_of(_METRIC)
    return "" if pd.isna(rate) else f"<br>{quantity.label}: {quantity.text(rate)}"


def rate_words(rate: float) -> str:
    """Return the part of a sentence about a rate; empty where there is none."""
    quantity = metric_of(_METRIC)
    return "" if pd.isna(rate) else f", {quantity.label} {quantity.text(rate)}"


def found(rows: pd.DataFrame) -> np.ndarray:
    """[rows] bool array: whether the rate of a row is below 5 %."""
    return (rows[RATE] < _LEVEL).fillna(False).to_numpy(dtype=bool)


def finds_note(rows: pd.DataFrame, mark: str) -> str:
    """Return the part of a subtitle that says what the mark of finds means; empty where no row was tested."""
    tested = RATE in rows and rows[RATE].notna().any()
    return f"{mark}: {metric_of(_METRIC).label} below {_LEVEL:.0%}" if tested else ""


def dots(x: np.ndarray, y: np.ndarray, rows: pd.DataFrame) -> go.Scatter:
    """Return a dot over every cell [rows] whose rate is below 5 %; a click goes through it."""
    places = found(rows)
    return go.Scatter(
        x=x[places],
        y=y[places],
        mode="markers",
        marker={"size": 5, "color": "#ffffff", "line": {"width": 1, "color": "#1d2630"}},
        hoverinfo="skip",
        showlegend=False,
    )
