"""Rows of a metric, and tables of such rows: order of columns, dtypes, sorting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.tables.spec import TableSpec


def rows(
    keys: Mapping[str, Any],
    metric: ArrayLike,
    value: ArrayLike,
    low: ArrayLike = np.nan,
    high: ArrayLike = np.nan,
    *,
    corrected: ArrayLike = np.nan,
    null: ArrayLike,
    n: ArrayLike,
    scope: ArrayLike,
) -> pd.DataFrame:
    """Return rows of a metric, or of an array of metrics, everything broadcast against `value`.

    Missing numbers are NaN, missing integers NA. `corrected` is the estimate that low and high are about.
    """
    columns = {**keys, "metric": metric, "value": value, "corrected": corrected, "low": low, "high": high}
    columns |= {"null": null, "n": n, "scope": scope}
    shape = np.broadcast_shapes(*(np.shape(column) for column in columns.values()))
    return pd.DataFrame({name: np.broadcast_to(column, shape).ravel() for name, column in columns.items()})


def missing_rows(keys: Mapping[str, Any], metric: str, shape: Sequence[int], why: str) -> pd.DataFrame:
    """Return rows of a metric without data: value, interval and n are missing, the scope says why."""
    return rows(keys, metric, np.full(tuple(shape), np.nan), null=np.nan, n=0, scope=f"not enough data: {why}")


def tidy(parts: Sequence[pd.DataFrame], spec: TableSpec, balanced: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return parts of a table as one, with the columns and dtypes of its SPEC, sorted by its keys, then metric.

    Rows whose layer is empty (all layers pooled) come last.

    Args:
        parts: rows of one or several metrics each.
        spec: the declaration of the table.
        balanced: the balanced value of each metric, where the table has the column.
    """
    # Hundreds of small parts: one array per column is ten times faster than dtypes for each part.
    arrays = {name: np.concatenate([_column(part, name, kind) for part in parts]) for name, kind in spec.dtypes.items()}
    if balanced is not None:
        arrays["balanced"] = np.array([balanced[name] for name in arrays["metric"]], np.float64)
    frame = pd.DataFrame(arrays).astype(spec.dtypes)
    return frame.sort_values([*spec.keys, "metric"], kind="stable", ignore_index=True)


def _column(part: pd.DataFrame, name: str, dtype: str) -> NDArray[Any]:
    """[rows] one column, missing where the part has none."""
    if name not in part:
        return np.full(len(part), np.nan, np.float64 if dtype == "float64" else object)
    column = part[name]
    return column.to_numpy(np.float64, na_value=np.nan) if dtype == "float64" else column.to_numpy(object)


def with_dtypes(frame: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Return a frame with its columns in the order of a SPEC and its numbers in their dtypes.

    Texts stay as they are: a category is small, and `str` cannot hold a lone surrogate.
    """
    return frame[[*spec.dtypes]].astype({name: kind for name, kind in spec.dtypes.items() if kind != "str"})


def empty(spec: TableSpec, why: str) -> pd.DataFrame:
    """Return a table without rows, whose `attrs["note"]` says why."""
    frame = pd.DataFrame(columns=[*spec.dtypes]).astype(spec.dtypes)
    frame.attrs["note"] = f"not enough data: {why}"
    return frame
