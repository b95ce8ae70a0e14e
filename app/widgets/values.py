"""Values as large numbers, with interval, null and n."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.state import controls
from app.widgets import choices, frames
from mixtral_probe.tables import TABLES, Metric
from mixtral_probe.tables.registry import band_text, estimate, metric_of


def cards(table: pd.DataFrame, metrics: Sequence[str], suffix: str = "", *, scope: bool = False) -> None:
    """Draw metrics of one row each as large numbers, with interval, null and n, and scope below or in their help."""
    by_metric = table.set_index("metric")
    with st.container(horizontal=True, gap="small"):
        for metric in metrics:
            card(by_metric.loc[metric], metric, metric_of(metric).label + suffix, scope=scope)


def card(row: pd.Series, metric: str, label: str | None = None, *, scope: bool = False) -> None:
    """Draw one metric as a large number, with interval, references and n below it, and its scope there or as help."""
    words = metric_of(metric)
    interval = "no interval" if pd.isna(row["low"]) else f"95 %: {words.text(row['low'])} – {words.text(row['high'])}"
    names = words.references(row.index)
    against = "".join(f"  \n{name}: {words.text(row[key])}" for key, name in names.items() if pd.notna(row[key]))
    with st.container(border=True, gap=None):
        st.metric(label or words.label, words.text(estimate(row)), help=_help(row, words))
        of = f"  \n{row['scope']}" if scope else ""
        lines = [f"{interval}{against}", band_text(row, words), f"n = {_count(row['n'])} tokens{of}"]
        st.caption("  \n".join(filter(None, lines)))


def _help(row: pd.Series, words: Metric) -> str:
    """Return the scope, and the value of the published formula if it differs from the large number."""
    plain = words.text(row["value"])
    differs = plain != words.text(estimate(row))
    return f"{row['scope']}" + (f"  \nwithout correction for few documents: {plain}" if differs else "")


def _count(n: object) -> str:
    return "not given" if pd.isna(n) else f"{int(n):,}"  # type: ignore[call-overload]


def expert_cards(load: pd.DataFrame, view: controls.PageView) -> None:
    """Draw the choice of an expert and its numbers at the chosen layer."""
    expert = choices.expert(view.stats.num_experts)
    if expert is None:
        return
    of_expert = frames.rows(load, layer=view.layer, group=view.group, expert=expert)
    cards(of_expert, [metric for metric in TABLES["expert_load"].metrics if metric in set(of_expert["metric"])])
