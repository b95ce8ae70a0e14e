"""The part of the page Compare within one trace: groups, layers or slices, with intervals of their differences."""

from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st

from app.state import address, controls, sources
from app.widgets import charts, choices, frames
from mixtral_probe import InputError, figures, tables
from mixtral_probe.selection import Selection
from mixtral_probe.tables.comparisons.statistics import EXPERT_METRICS, LAYER_METRICS
from mixtral_probe.tables.registry import metric_of

_BETWEEN = {"groups": "two groups", "layers": "layers", "slices": "two slices"}


def section(view: controls.PageView) -> None:
    """Draw the choice of what is compared, and its differences."""
    st.header("Within this trace", anchor=False)
    st.caption(
        "Two intervals that overlap may belong to values that differ beyond doubt. These are the intervals of the "
        "difference itself: documents are left out of both sides at once, or of each group for itself."
    )
    between = choices.one_of("Between", list(_BETWEEN), "between", named=_BETWEEN.__getitem__)
    {"groups": _groups, "layers": _layers, "slices": _slices}[between](view)


def _groups(view: controls.PageView) -> None:
    table = view.table("group_differences")
    if table.empty:
        st.info(table.attrs["note"])
        return
    names = sorted({*table["group"], *table["other_group"]})
    with st.container(horizontal=True):
        first, second = (_name(label, names, key, at) for label, key, at in (("From", "one", 0), ("to", "other", 1)))
    if first == second:
        st.info("Choose two different groups.")
        return
    of_pair = frames.rows(table, group=min(first, second), other_group=max(first, second))
    title = f"{max(first, second)} less {min(first, second)}"
    metric = _metric(LAYER_METRICS | EXPERT_METRICS)
    _bars(of_pair, metric, title, view.layer, "group_differences")
    if metric.removesuffix("_difference") in LAYER_METRICS:
        at_layer = frames.rows(table, metric=metric, layer=view.layer)
        charts.show(
            figures.group_differences(table, metric=metric, layer=view.layer),
            at_layer,
            "group_pairs",
            f"group_differences_layer_{view.layer}",
        )


def _name(label: str, names: Sequence[str], key: str, default: int) -> str:
    address.keep(key, names, default=names[min(default, len(names) - 1)])
    chosen: str = st.selectbox(label, names, key=key, width=240)
    return chosen


def _layers(view: controls.PageView) -> None:
    table = view.table("layer_differences")
    if table.empty:
        st.info(table.attrs["note"])
        return
    metric = _metric(LAYER_METRICS)
    rows = frames.rows(table, metric=metric, group=view.group)
    if not frames.explain_missing(rows):
        figure = figures.layer_differences(table, metric=metric, group=view.group)
        charts.show(figure, rows, "layer_pairs", "layer_differences")


def _slices(view: controls.PageView) -> None:
    with st.container(horizontal=True):
        first, second = (_where(label, key, text) for label, key, text in _FIELDS)
    try:
        stats = [sources.stats(view.source, _expression(where)) for where in (first, second)]
    except InputError as error:
        st.error("Not compared:", icon=":material/error:")
        st.text(str(error))
        return
    table = tables.slice_differences(stats[0], stats[1])
    _bars(table, _metric(LAYER_METRICS | EXPERT_METRICS), f"({second}) less ({first})", view.layer, "slice_differences")


_FIELDS = (
    ("From the tokens where", "slice_from", "token.is_alpha"),
    ("to those where", "slice_to", "token.is_digit"),
)


def _where(label: str, key: str, default: str) -> str:
    """Draw a field of an expression and return what is in it."""
    address.keep_text(key, default)
    return st.text_input(label, key=key, max_chars=2_000)


def _expression(where: str) -> str | None:
    """Return an expression without the names of slices.

    Raises:
        SelectionError: it has a mistake.
    """
    return Selection(where=where, slices=tuple(st.session_state.get("slices", {}).items())).expression or None


def _metric(declared: Iterable[str]) -> str:
    metrics = [f"{name}_difference" for name in declared]
    address.keep("difference", metrics)
    metric: str = st.selectbox(
        "Measure", metrics, key="difference", format_func=lambda name: metric_of(name).label, width=420
    )
    return metric


def _bars(table: pd.DataFrame, metric: str, title: str, layer: int, name: str) -> None:
    """Draw the differences of a pair: by expert of the layer, or of all layers."""
    at = layer if metric.removesuffix("_difference") in EXPERT_METRICS else None
    rows = frames.rows(table, metric=metric) if at is None else frames.rows(table, metric=metric, layer=at)
    if not frames.explain_missing(rows):
        charts.show(figures.difference_bars(table, metric=metric, title=title, layer=at), rows, name, name)
