"""Small choices, each in the address too."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app.state import address
from mixtral_probe.figures.words import words_of
from mixtral_probe.tables import TABLES


def table_metric(table: str, key: str) -> str:
    """One of a table's metrics, in words."""
    return metric("Measure", list(TABLES[table].metrics), key)


def metric(label: str, metrics: Sequence[str], key: str) -> str:
    """One of some metrics, in words."""
    chosen: str = one_of(label, metrics, key, named=lambda name: words_of(name).name)
    return chosen


def one_of(
    label: str, options: Sequence[Any], key: str, *, default: Any = None, named: Callable[[Any], str] = str,
    labelled: bool = False,
) -> Any:  # fmt: skip
    """One of a few options side by side, in the address by itself and on the page by its name."""
    address.keep(key, options, default=default)
    seen: Any = "visible" if labelled else "collapsed"
    return st.segmented_control(label, options, required=True, format_func=named, key=key, label_visibility=seen)


def switch(label: str, key: str, *, on: bool = False) -> bool:
    """A switch, in the address too.

    Args:
        label: of the switch.
        key: of the widget, and of its part of the address.
        on: whether it is on at first.
    """
    address.keep(key, [on, not on], named=lambda shown: "shown" if shown else "hidden")
    return st.toggle(label, key=key)


def expert(experts: int) -> int | None:
    """The expert that all pages share, or None."""
    options = ["–", *range(experts)]
    address.keep("expert", options, named=lambda expert: "" if expert == "–" else str(expert))
    expert = st.selectbox("Expert", options, key="expert", width=160)
    return None if expert == "–" else int(expert)
