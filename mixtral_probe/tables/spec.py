"""What a table is: how it is made, the columns it has and what they mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

COLUMNS = {
    "layer": "layer, from 0, as the model numbers it; empty = all layers together",
    "group": 'value of the document label asked for with `by`, or "all" = every document',
    "other_group": "the other group",
    "other_layer": "the other layer, as the model numbers it",
    "expert": "expert, from 0; experts of different layers are different networks",
    "other_expert": "the other expert, from 0; in `transitions` one of `other_layer`",
    "lag": "how many tokens apart, from 1",
    "step": "step of training the trace was made at",
    "path": "first choice in each layer that has experts, such as 3-0-7",
    "policy": "lru, lfu, belady (knows what comes) or static (the layer's most chosen experts)",
    "capacity": "experts of a layer that fit in the cache",
    "capacity_factor": "room of an expert against that of even use",
    "threshold": "least weight of a token's last choice, in parts of its first, at which it is kept",
    "ranks": "devices that share the experts of a layer",
    "replicas": "experts of a layer and their copies on all ranks together",
    "variable": "domain, position, token, or next, previous, predicted token; x|token = x among tokens of one type",
    "target": "input = token routed, predicted = token the model expects next, next = token that follows",
    "min_count": "least number of tokens of a type that counts",
    "weighting": "type = every token type alike, token = each by its tokens",
    "rank": "place among the experts chosen for a token; 0 = strongest",
    "head": "attention head, from 0",
    "statistic": "mean, median, q05, q25, q75 or q95 over tokens",
    "bin": "number of the bin, from 0",
    "left": "left edge of the bin; the first bin also holds what lies below",
    "right": "right edge of the bin; the last bin also holds what lies above",
    "document": "row of the documents table, from 0",
    "chunk": "window of a long document, from 0",
    "position": "position within the window, from 0",
    "place": "place in the order of the table, from 0",
    "token_id": "number of the token type in the vocabulary",
    "token": "text of the token; in a CSV a JSON string literal",
    "weight": "what the expert's output was multiplied by; empty when not recorded",
    "margin": "logit of the weakest chosen minus the strongest other expert, nats; empty when there is none",
    "metric": "name of the metric, see below",
    "value": "the metric; empty when `scope` says why",
    "low": "lower end of the 95 % jackknife interval over blocks of documents; empty when `scope` says why",
    "high": "upper end of it",
    "null": "what chance gives: uniform top-K routing of as many tokens, or what `scope` says",
    "n": "tokens the value comes from",
    "scope": "which layers and tokens, which normalisation, and what is missing and why",
}
"""What every column means, in all tables alike."""
VALUES = ("metric", "value", "low", "high", "null", "n", "scope")


@dataclass(frozen=True)
class TableSpec:
    """One table: how to make it and what stands in it."""

    name: str
    source: Literal["trace", "stats", "traces", "result"]
    """What `function` takes: a `Trace`, `RoutingStats`, several traces of the same texts, or a `Result`."""
    function: Callable[[Any], pd.DataFrame]
    description: str
    """One sentence."""
    keys: tuple[str, ...]
    """The columns it is sorted by; together with `metric` they tell rows apart."""
    columns: dict[str, str]
    """Every column, in order, with its meaning."""
    metrics: dict[str, str]
    """Every value of the column `metric`, with its meaning; empty when there is no such column."""
    per_token: bool = False
    """Whether it has a row for every token, and so grows with the trace."""


def spec(
    function: Callable[[Any], pd.DataFrame],
    source: Literal["trace", "stats"],
    keys: str,
    metrics: dict[str, str],
    description: str,
    *,
    values: tuple[str, ...] = VALUES,
    per_token: bool = False,
) -> TableSpec:
    """A table of a trace or of statistics, named as its function is.

    Args:
        function: makes it.
        source: what the function takes.
        keys: the key columns, with spaces between.
        metrics: the words of each metric.
        description: one sentence.
        values: the columns after the keys.
        per_token: whether it has a row for every token.
    """
    names = tuple(keys.split())
    columns = {name: COLUMNS[name] for name in (*names, *values)}
    name = function.__name__
    return TableSpec(name, source, function, description, names, columns, metrics, per_token)
