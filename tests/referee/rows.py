"""What the referee says of a table, row by row, and its comparison with the table."""

from typing import NamedTuple

import numpy as np
import pandas as pd

NAN = float("nan")
"""A value that must be missing."""
UNCHECKED = None
"""A null from a simulation, or one that stands in the list of what the referee leaves out."""


class Row(NamedTuple):
    """One row: its keys, as a tuple in the order of the table's, its metric and its numbers."""

    keys: tuple
    metric: str
    value: float
    null: float | None
    n: float
    null_same_load: float | None = UNCHECKED
    weight: float | None = None
    """What a document's part of makes it count for an interval, where that is not n."""

    @property
    def size(self) -> float:
        """That weight, or n."""
        return self.n if self.weight is None else self.weight


def row_of(
    keys: tuple, metric: str, value: float, null: float | None, n: float, same_load: float | None = UNCHECKED
) -> Row:
    """A row whose n is 0 where there is no value."""
    if np.isnan(value):
        return Row(keys, metric, value, UNCHECKED, 0)
    return Row(keys, metric, value, null, n, same_load)


def assert_same(table: pd.DataFrame, keys: tuple[str, ...], rows: list[Row], *, metrics: set[str] | None = None):
    """Compare the rows of some metrics (all of them) of a table with those of the referee, to 1e-9."""
    found = table if metrics is None else table[table["metric"].isin(metrics)]
    rows = [row for row in rows if metrics is None or row.metric in metrics]
    expected = {(*plain(row.keys), row.metric): row for row in rows}
    assert len(expected) == len(rows), "the referee has a row twice"
    records = found.to_dict("records")
    got = {(*plain(row[key] for key in keys), row["metric"]): row for row in records}
    assert not set(got) ^ set(expected), _difference(got, expected)
    wrong = {name: text for name, row in expected.items() if (text := "; ".join(_wrong(row, got[name])))}
    assert not wrong, _examples(wrong)


def plain(keys) -> tuple:
    """Keys that can be compared: None where there is none."""
    return tuple(None if pd.isna(key) else round(key, 9) if isinstance(key, float) else key for key in keys)


def _difference(got, expected):
    lines = [f"the referee lacks {name}" for name in sorted(set(got) - set(expected), key=str)]
    lines += [f"the table lacks {name}" for name in sorted(set(expected) - set(got), key=str)]
    return f"{len(lines)} rows differ:\n" + "\n".join(lines[:40])


def _wrong(row, got):
    for column in ("value", "null", "n", "null_same_load"):
        ours = getattr(row, column)
        if ours is UNCHECKED:
            continue
        theirs = NAN if pd.isna(got[column]) else float(got[column])
        if not np.isclose(theirs, ours, rtol=1e-9, atol=1e-9, equal_nan=True):
            yield f"{column} is {theirs:.12g}, the referee has {ours:.12g}"


def _examples(wrong):
    """Return three rows of each metric."""
    lines = [f"{len(wrong)} rows differ"]
    for metric in dict.fromkeys(name[-1] for name in wrong):
        rows = [f"{name}: {text}" for name, text in wrong.items() if name[-1] == metric]
        lines += [f"{len(rows)} of {metric}", *rows[:3]]
    return "\n".join(lines)
