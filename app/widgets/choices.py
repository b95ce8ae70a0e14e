"""Small choices, each of them in the address."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import streamlit as st

from app.state import address
from mixtral_probe.tables import TABLES
from mixtral_probe.tables.registry import metric_of


def table_metric(table: str, key: str, *, without: Collection[str] = ()) -> str:
    """Draw the choice of one of a table's metrics, but for some."""
    return metric("Measure", [name for name in TABLES[table].metrics if name not in without], key)


def metric(label: str, metrics: Sequence[str], key: str) -> str:
    """Draw the choice of one of some metrics."""
    chosen: str = one_of(label, metrics, key, named=lambda name: metric_of(name).label)
    return chosen


def one_of(
    label: str, options: Sequence[Any], key: str, *, default: Any = None, named: Callable[[Any], str] = str,
    labelled: bool = False,
) -> Any:  # fmt: skip
    """Draw a few options side by side and return the choice, which is in the address."""
    address.keep(key, options, default=default)
    seen: Any = "visible" if labelled else "collapsed"
    return st.segmented_control(label, options, required=True, format_func=named, key=key, label_visibility=seen)


def switch(label: str, key: str, *, on: bool = False) -> bool:
    """Draw a switch that is in the address and return whether it is on.

    Args:
        label: of the switch.
        key: of the widget, and of its part of the address.
        on: whether it is on at first.
    """
    address.keep(key, [on, not on], named=lambda on: "shown" if on else "hidden")
    return st.toggle(label, key=key)


def expert(experts: int) -> int | None:
    """Draw the choice of the expert that all pages share and return it, or None."""
    options = ["–", *range(experts)]
    address.keep("expert", options, named=lambda expert: "" if expert == "–" else str(expert))
    expert = st.selectbox("Expert", options, key="expert", width=160)
    return None if expert == "–" else int(expert)
