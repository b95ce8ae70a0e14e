"""Texts, numbers and small choices that pages share."""

from collections.abc import Callable, Sequence
from typing import Any

import address
import controls
import pandas as pd
import streamlit as st

from mixtral_probe.figures.words import words_of
from mixtral_probe.stats import ALL
from mixtral_probe.tables import TABLES


def title(name: str, about: str) -> None:
    """A page's name and what it is about."""
    st.title(name, anchor=False)
    st.caption(about)


def welcome() -> None:
    """Three sentences for somebody who is here for the first time, until closed."""
    if st.session_state.get("welcomed"):
        return
    with st.container(border=True):
        st.markdown(
            "**Welcome.** In every layer of a Mixtral model a router sends each token to a few of the layer's experts; "
            "this dashboard shows what the routers of one recorded run did. "
            "Choose the trace, the layer and a domain on the left: every page follows, and the address bar remembers. "
            "Every number comes with what was counted and how often, every chart has its table and its CSV."
        )
        st.button("Got it", key="welcome_close", on_click=_close_welcome)


def _close_welcome() -> None:
    st.session_state["welcomed"] = True


def rows(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in keys.items():
        table = table[(table[name] == value).fillna(False).to_numpy(dtype=bool)]
    return table


def nothing(shown: pd.DataFrame) -> bool:
    """Whether no row has a value; then say why."""
    if shown["value"].notna().any():
        return False
    scope = str(shown["scope"].iloc[0]) if len(shown) else "not enough data"
    st.info(scope.split("; ")[-1].capitalize() + ".")
    return True


def group_of(table: pd.DataFrame, chosen: controls.Chosen) -> str:
    """The chosen group, or all documents, with a word about it, where the table is not made by group."""
    if chosen.group in set(table["group"]):
        return chosen.group
    st.caption("Of all documents together.")
    return ALL


def metric_choice(table: str, key: str) -> str:
    """One of a table's metrics, in words."""
    return choice("Measure", list(TABLES[table].metrics), key)


def choice(label: str, metrics: Sequence[str], key: str) -> str:
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


def numbers(table: pd.DataFrame, metrics: Sequence[str], suffix: str = "", *, scope: bool = False) -> None:
    """Metrics of one row each as large numbers; interval, null and n below them, scope there too or in their help."""
    held = table.set_index("metric")
    with st.container(horizontal=True, gap="small"):
        for metric in metrics:
            number(held.loc[metric], metric, words_of(metric).name + suffix, scope=scope)


def number(row: pd.Series, metric: str, label: str | None = None, *, scope: bool = False) -> None:
    """One metric as a large number, with its interval, null and n below it, and its scope there or as help."""
    words = words_of(metric)
    interval = "no interval" if pd.isna(row["low"]) else f"95 %: {words.text(row['low'])} – {words.text(row['high'])}"
    null = "" if pd.isna(row["null"]) else f"  \n{words.null}: {words.text(row['null'])}"
    with st.container(border=True, gap=None):
        st.metric(label or words.name, words.text(row["value"]), help=str(row["scope"]))
        of = f"  \n{row['scope']}" if scope else ""
        st.caption(f"{interval}{null}  \nn = {_count(row['n'])} tokens{of}")


def _count(n: object) -> str:
    return "not given" if pd.isna(n) else f"{int(n):,}"  # type: ignore[call-overload]


def expert_choice(experts: int) -> int | None:
    """The expert that all pages share, or None."""
    options = ["–", *range(experts)]
    address.keep("expert", options, named=lambda expert: "" if expert == "–" else str(expert))
    expert = st.selectbox("Expert", options, key="expert", width=160)
    return None if expert == "–" else int(expert)


def one_expert(load: pd.DataFrame, chosen: controls.Chosen) -> None:
    """What the chosen expert does at the chosen layer."""
    expert = expert_choice(chosen.stats.num_experts)
    if expert is None:
        return
    own = rows(load, layer=chosen.layer, group=chosen.group, expert=expert)
    numbers(own, [metric for metric in TABLES["expert_load"].metrics if metric in set(own["metric"])])
