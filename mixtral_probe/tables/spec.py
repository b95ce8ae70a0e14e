"""The declaration of a table: its function, its columns, its metrics and how they are written, its figures."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mixtral_probe.tables.phrases import SAME_LOAD


class Column(NamedTuple):
    """What a column means, and its dtype in every table."""

    meaning: str
    dtype: Literal["Int64", "float64", "str"]


COLUMNS = {
    "layer": Column("layer, from 0, as the model numbers it; empty = all layers together", "Int64"),
    "group": Column('value of the document label `by`, or "all" = every document', "str"),
    "other_group": Column("the other group", "str"),
    "other_layer": Column("the other layer, as the model numbers it", "Int64"),
    "expert": Column("expert, from 0; experts of different layers are different networks", "Int64"),
    "other_expert": Column("the other expert, from 0; in `transitions` one of `other_layer`", "Int64"),
    "lag": Column("how many tokens apart, from 1", "Int64"),
    "step": Column("step of training at which the trace was recorded", "Int64"),
    "path": Column("first choice in each layer that has experts, such as 3-0-7", "str"),
    "policy": Column(
        "what leaves a full cache, never an expert of the same token: lru = used longest ago, lfu = used least in the "
        "window, of equals longest ago, belady = needed latest; static = holds the layer's most chosen experts",
        "str",
    ),
    "capacity": Column("experts of a layer that fit in the cache", "Int64"),
    "capacity_factor": Column("room of an expert against that of even use", "float64"),
    "threshold": Column("least weight of a token's last choice, in parts of its first, at which it is kept", "float64"),
    "ranks": Column("devices that share the experts of a layer", "Int64"),
    "replicas": Column("experts of a layer and their copies on all ranks together", "Int64"),
    "variable": Column(
        "domain, position, token, or next, previous, predicted token; x|token = x among tokens of one type", "str"
    ),
    "target": Column(
        "input = token routed, predicted = token the model expects next, next = token that follows", "str"
    ),
    "min_count": Column("least number of tokens of a type that counts", "Int64"),
    "weighting": Column("type = every token type alike, token = each by its tokens", "str"),
    "rank": Column("place among the experts chosen for a token; 0 = strongest", "Int64"),
    "head": Column("attention head, from 0", "Int64"),
    "statistic": Column("mean, median, q05, q25, q75 or q95 over tokens", "str"),
    "bin": Column("number of the bin, from 0", "Int64"),
    "left": Column("left edge of the bin; the first bin also holds what lies below", "float64"),
    "right": Column("right edge of the bin; the last bin also holds what lies above", "float64"),
    "document": Column("row of the documents table, from 0", "Int64"),
    "chunk": Column("window of a long document, from 0", "Int64"),
    "position": Column("position within the window, from 0", "Int64"),
    "place": Column("place in the order of the table, from 0", "Int64"),
    "token_id": Column("number of the token type in the vocabulary", "Int64"),
    "token": Column("text of the token; in a CSV a JSON string literal", "str"),
    "weight": Column("what the expert's output was multiplied by; empty when not recorded", "float64"),
    "margin": Column(
        "logit of the weakest chosen minus the strongest other expert, nats; empty when there is none", "float64"
    ),
    "metric": Column("name of the metric, see below", "str"),
    "value": Column("the metric; empty when `scope` says why", "float64"),
    "corrected": Column(
        "the metric without the bias of few documents, which the interval is about; empty without an interval",
        "float64",
    ),
    "low": Column(
        "lower end of the 95 % jackknife interval over at least 5 documents; empty when `scope` says why", "float64"
    ),
    "high": Column("upper end of it", "float64"),
    "null": Column("what chance gives: uniform top-K routing of as many tokens, or what `scope` says", "float64"),
    "null_same_load": Column(
        "what the same tokens give in random order, exchanged among all windows of the group: the loads as they are, "
        "and no two tokens alike because they are neighbours or of one document",
        "float64",
    ),
    "balanced": Column("what the metric is when every expert is used and weighted alike", "float64"),
    "n": Column("tokens the value comes from", "Int64"),
    "scope": Column("which layers and tokens, which normalisation, and what is missing and why", "str"),
}
"""Every column that more than one table has, with its meaning and dtype."""
VALUES = ("metric", "value", "corrected", "low", "high", "null", "n", "scope")
"""The columns after the keys."""
VALUES_SAME_LOAD = (*VALUES[:6], "null_same_load", *VALUES[6:])
"""Those of a table with a second null, which separates uneven loads (second null against `null`) from the order of the
tokens (value against second null)."""
VALUES_WITH_BALANCED = (*VALUES[:6], "balanced", *VALUES[6:])
"""The same where balance and chance are two values."""


def estimates(table: pd.DataFrame) -> pd.Series:
    """[rows] each row's `estimate`: `corrected`, which the interval is about, or else `value`.

    A table of an older version, without the column `corrected`, gives its values.
    """
    return table["corrected"].fillna(table["value"]) if "corrected" in table else table["value"]


def estimate(row: Mapping[str, Any] | pd.Series) -> Any:
    """Return the number of one row that is shown with its interval: `corrected`, or else `value`.

    Args:
        row: of a table, as a Series or a dictionary; missing numbers are NaN, NA or None.
    """
    corrected = row.get("corrected")
    return row["value"] if pd.isna(corrected) else corrected


@dataclass(frozen=True)
class Metric:
    """What a metric means and how its values are written."""

    meaning: str
    """One line: the formula, its range, its null."""
    label: str
    """On an axis and in a sentence."""
    format: str = ".3g"
    """Of a value, as Python's `format` takes it."""
    bounds: tuple[float, float] = (-np.inf, np.inf)
    """The least and the greatest value possible, whatever the model."""
    null: str = "null"
    """What the reference line of chance is called."""
    balanced: str | None = None
    """What the reference line of the balanced value is called; None where there is none."""

    def references(self, columns: Container[str]) -> dict[str, str]:
        """Return those of a table's columns that have reference values, chance first, and what each is called.

        In tables of an older version, without the column `balanced`, the balanced value is the null.
        """
        if self.balanced is not None and "balanced" not in columns:
            return {"null": self.balanced}
        names = {"null": self.null, "null_same_load": SAME_LOAD, "balanced": self.balanced}
        return {column: name for column, name in names.items() if name is not None and column in columns}

    def text(self, value: float) -> str:
        """Write a value for a reader."""
        if pd.isna(value) or value == 0:
            return "–" if pd.isna(value) else "0"
        text = format(float(value), self.format)
        return f"{float(value):,.0f}" if "e+0" in text and abs(value) < 1e7 else text


def band_text(row: Mapping[str, Any] | pd.Series, metric: Metric) -> str:
    """Write the range of a placebo's draws, and the place of the value among them; "" where there is no range.

    Args:
        row: of a table with a placebo, as a Series or a dictionary.
        metric: of the row.
    """
    if pd.isna(row.get("placebo_low")):
        return ""
    draws, rank, p = row["placebo_draws"], row.get("placebo_rank"), row.get("p")
    place = "" if pd.isna(rank) else f", rank {rank} of {draws + 1}"
    test = "" if pd.isna(p) else f", p {p:.2g}"
    return f"{draws} draws: {metric.text(row['placebo_low'])} – {metric.text(row['placebo_high'])}{place}{test}"


Options = Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A figure of a table as the report draws it."""

    figure: str
    """Its name in `mixtral_probe.figures`."""
    options: Options | Callable[[pd.DataFrame], Iterable[Options]] = field(default_factory=dict)
    """Arguments besides the table, or a function that returns those of each picture."""
    grouped: bool = False
    """Whether it is drawn only for several groups."""

    def options_of(self, table: pd.DataFrame) -> list[Options]:
        """Return the arguments of each picture of a table; none where it has too few groups."""
        if self.grouped and table["group"].nunique() < 2:
            return []
        return list(self.options(table)) if callable(self.options) else [self.options]


Origin = Literal["trace", "stats", "traces", "result", "part"]


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table: its function and its content. Each module of `tables` with a table ends in its SPEC."""

    function: Callable[..., pd.DataFrame]
    source: Origin
    """What `function` takes: a `Trace`, `RoutingStats`, several traces of the same texts, a `Result`, or (part) more
    arguments, which name a part of a trace."""
    description: str
    """One sentence."""
    keys: tuple[str, ...]
    """The columns it is sorted by; together with `metric` they identify a row."""
    metrics: Mapping[str, Metric]
    """Every value of the column `metric`; empty without that column."""
    figures: tuple[Drawing, ...]
    """What the report draws; () where no picture says more than the table."""
    narrows: bool
    """Whether a selection narrows it."""
    values: tuple[str, ...] = VALUES
    """The columns after the keys."""
    meanings: Mapping[str, Column] = field(default_factory=dict)
    """Columns that no other table has, or that mean something else here."""
    per_token: bool = False
    """Whether it has a row for every token, and so grows with the trace."""

    @property
    def name(self) -> str:
        """The name of the function, of the CSV and of the dashboard's table."""
        return self.function.__name__

    @property
    def columns(self) -> dict[str, str]:
        """Every column, in order, with its meaning."""
        return {name: self._column(name).meaning for name in (*self.keys, *self.values)}

    @property
    def dtypes(self) -> dict[str, str]:
        """Every column, in order, with its dtype."""
        return {name: self._column(name).dtype for name in (*self.keys, *self.values)}

    def _column(self, name: str) -> Column:
        return self.meanings[name] if name in self.meanings else COLUMNS[name]
