"""How values, keys and texts are written in figures."""

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.figures.discoveries import RATE, rate_line
from mixtral_probe.tables.registry import Metric, band_text, estimates

LABELLED = 40
"""Up to this many tokens each has its text on the axis; above, positions only."""


def label(text: object) -> str:
    """Return any text as plotly may draw it: markup escaped, spaces and control characters made visible."""
    plain = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    glyphs = {"\n": "↵", "\t": "⇥", "\r": "␍"}
    visible = "".join(glyphs.get(char, char if char.isprintable() else "·") for char in plain)
    if visible != visible.strip(" "):
        left, right = len(visible) - len(visible.lstrip(" ")), len(visible) - len(visible.rstrip(" "))
        visible = "␣" * left + visible.strip(" ") + ("␣" * right if visible.strip(" ") else "")
    return html.escape(visible, quote=False)  # plotly reads no &quot;


def rows_of(frame: pd.DataFrame, metric: str, group: str | None = None, **keys: int | None) -> pd.DataFrame:
    """Return the rows of a metric, of a group and of the keys that are not None, with the column `estimate` to draw.

    Raises:
        InputError: the table is empty or has no such row.
    """
    if frame.empty:
        raise InputError(f"a figure of {metric} needs rows, got an empty table")
    choices = {"metric": metric, "group": group, **keys}
    for column, choice in choices.items():
        if choice is None:
            continue
        values = frame[column]
        frame = frame[(values == choice).fillna(False).to_numpy(dtype=bool)]
        if frame.empty:
            known = ", ".join(map(str, values.dropna().unique()[:20])) or "nothing"
            raise InputError(f"{column} must be one the table has ({known}), got {choice!r}")
    return with_estimate(frame)


def with_estimate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the column `estimate`: the number that is drawn and that the interval contains."""
    return frame.assign(estimate=estimates(frame))


def names_of(frame: pd.DataFrame, column: str) -> list[str]:
    """Return the values of a text column in their order, "all" last."""
    names = list(dict.fromkeys(frame[column].astype(str)))
    return [name for name in names if name != "all"] + [name for name in names if name == "all"]


def subtitle(rows: pd.DataFrame, more: str = "") -> str:
    """Return scope and n of rows: what all their scopes have in common, and the smallest to the largest n."""
    shared, counts = shared_scope(rows), rows["n"].dropna()
    size = "n not given"
    if len(counts):
        low, high = f"{counts.min():,}", f"{counts.max():,}"
        size = f"n = {low if low == high else f'{low} – {high}'} tokens"
    # Scopes name columns as code, which a figure cannot set.
    text = " · ".join(label(part.replace("`", "")) for part in [*([more] if more else []), *shared, size])
    return "<br>".join(textwrap.wrap(text, 125))


def shared_scope(rows: pd.DataFrame) -> list[str]:
    """Return the parts that the scopes of all rows have in common."""
    scopes = [str(scope).split("; ") for scope in rows["scope"].unique()]
    return [part for part in scopes[0] if all(part in scope for scope in scopes)] if scopes else []


def group_note(group: str) -> str:
    """Return the part of a subtitle that names a group."""
    return "" if group == "all" else f"group {group}"


def window_name(document: int, chunk: int) -> str:
    """Return the name of a window of a document."""
    return f"document {document}" + (f", window {chunk}" if chunk else "")


def hover(rows: pd.DataFrame, keys: Sequence[str], quantity: Metric, *, brief: bool = False) -> dict[str, Any]:
    """Return the arguments of a trace whose points have `hover_texts`."""
    return {
        "hovertext": hover_texts(rows, keys, quantity, brief=brief),
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def hover_texts(rows: pd.DataFrame, keys: Sequence[str], quantity: Metric, *, brief: bool = False) -> np.ndarray:
    """[rows] object array of keys, estimate, interval, null and n of `rows_of`; keys and estimate only when `brief`.

    Rows of `with_false_discovery` have their rate too; rows with a placebo have the range of its draws, and the place
    of the value among them.
    """
    columns = [rows[name].astype(object) for name in keys]
    heads = [
        " · ".join(f"{name} {label(value)}" for name, value in zip(keys, row, strict=True))
        for row in zip(*columns, strict=True)
    ]
    if brief:
        lines = [f"{head}<br>{quantity.text(value)}" for head, value in zip(heads, rows["estimate"], strict=True)]
    else:
        names = quantity.references(rows.columns)
        numbers = rows[["estimate", "value", "low", "high", "n", *names]].itertuples(index=False)
        rates = rows[RATE] if RATE in rows else [float("nan")] * len(rows)
        lines = [
            f"<b>{head}</b><br>{_numbers(quantity, row[:5], dict(zip(names.values(), row[5:], strict=True)))}"
            f"{rate_line(rate)}"
            for head, row, rate in zip(heads, numbers, rates, strict=True)
        ]
        if "placebo_low" in rows:
            bands = [band_text(row, quantity) for row in rows.to_dict("records")]
            lines = ["<br>".join(filter(None, pair)) for pair in zip(lines, bands, strict=True)]
    return np.array(lines, dtype=object)


def _numbers(quantity: Metric, row: tuple[Any, ...], references: Mapping[str, float]) -> str:
    """Return estimate, value, low, high and n of a row in words, with the values it is set against."""
    text, (estimate, value, low, high, n) = quantity.text, row
    interval = "no interval" if pd.isna(low) else f"95 % interval {text(low)} to {text(high)}"
    plain = "" if text(value) == text(estimate) else f"<br>plain value: {text(value)}"
    count = "not given" if pd.isna(n) else f"{int(n):,} tokens"
    against = "".join(f"<br>{name}: {text(number)}" for name, number in references.items())
    return f"{quantity.label}: <b>{text(estimate)}</b><br>{interval}{plain}{against}<br>n: {count}"


def percent_format(quantity: Metric) -> str | None:
    """Return the number format of an axis where values are percentages; None leaves it to plotly."""
    return quantity.format if "%" in quantity.format else None


def ticks(values: Iterable[object], most: int = 16) -> tuple[np.ndarray, list[str]]:
    """Return places 0, 1, … and labels of at most about `most` of the values, evenly thinned."""
    texts = [label(value) for value in values]
    step = max(1, -(-len(texts) // most))
    return np.arange(0, len(texts), step), texts[::step]
