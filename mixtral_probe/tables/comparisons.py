"""The tables of several traces of the same texts, which no report of single traces has."""

from collections.abc import Callable

import pandas as pd

from mixtral_probe.tables.agreement import AGREEMENT, SATURATION, agreement, saturation
from mixtral_probe.tables.frame import VALUE_COLUMNS
from mixtral_probe.tables.spec import COLUMNS, TableSpec


def _spec(function: Callable[..., pd.DataFrame], keys: str, metrics: dict[str, str], description: str) -> TableSpec:
    names = tuple(keys.split())
    columns = {name: COLUMNS[name] for name in (*names, *VALUE_COLUMNS)}
    return TableSpec(function.__name__, "traces", function, description, names, columns, metrics)


COMPARISONS: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        _spec(
            agreement,
            "layer group expert",
            AGREEMENT,
            "How far two traces of the same texts agree, and which experts gained and lost.",
        ),
        _spec(
            saturation,
            "step layer group",
            SATURATION,
            "How far each step of training already chose the experts of the last one.",
        ),
    )
}
