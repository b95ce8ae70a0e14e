"""The list of tables that are made of an experiment's result, described as those of `TABLES` are."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from mixtral_probe.tables.registry import COLUMNS, VALUES, TableSpec
from mixtral_probe.tables.timing import COLUMNS as TIMING_COLUMNS
from mixtral_probe.tables.timing import KEYS as TIMING_KEYS
from mixtral_probe.tables.timing import TIMING, timing


def _spec(
    function: Callable[[Any], pd.DataFrame],
    keys: tuple[str, ...],
    metrics: dict[str, str],
    description: str,
    columns: dict[str, str],
) -> TableSpec:
    """`columns` says what differs here from the same columns of other tables."""
    meanings = COLUMNS | columns
    held = {name: meanings[name] for name in (*keys, *VALUES)}
    return TableSpec(function.__name__, "result", function, description, keys, held, metrics)


EXPERIMENTS: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        _spec(
            timing,
            TIMING_KEYS,
            TIMING,
            "Where the time and memory of a forward pass went, by part, site, layer and expert.",
            TIMING_COLUMNS,
        ),
    )
}
"""By name, which is also the `kind` of the result it is made of."""
