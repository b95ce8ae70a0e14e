"""The part of the page about specialization that separates topics from words and from single documents."""

import pandas as pd
import streamlit as st

from app.state import controls
from app.widgets import charts, choices, frames, large_tables, values
from mixtral_probe.tables.registry import metric_of
from mixtral_probe.tables.specialization.label_shuffles import FALSE_DISCOVERY, P_VALUE

_METRICS = ("mutual_information_bits", "mutual_information_bits_above_shuffles", P_VALUE, FALSE_DISCOVERY)


def topics(view: controls.PageView) -> None:
    """Draw what the domain tells beyond the words, against documents with shuffled domains."""
    if not large_tables.confirm(view, "domain_information"):
        return
    table = view.table("domain_information")
    if table.empty:
        st.info(table.attrs["note"])
        return
    frames.group_of(table, view)
    named = {name: metric_of(name).label for name in _METRICS}
    metric = choices.one_of("Measure", _METRICS, "topic_metric", named=named.__getitem__, labelled=True)
    rows = frames.rows(table, metric=metric)
    if frames.explain_missing(rows):
        return
    with st.container(horizontal=True, gap="small"):
        for _, row in frames.rows(rows, layer=view.layer).iterrows():
            values.card(row, metric, _name(row))
    charts.show(view.figure("domain_information", metric=metric), rows, "topics", "domain_information")
    st.markdown(
        "Documents of one domain share words, and any two documents differ. What the domain tells **beyond the token** "
        "is topic rather than lexicon. Chance is what the same documents show when their domains are shuffled among "
        "them: p is the share of the shuffles, of all layers together, that tell as much, and needs 20 ways to arrange "
        "the domains. Most types of token are too rare for an interval, so the frequent ones are shown apart, with "
        "theirs."
    )


def _name(row: pd.Series) -> str:
    if row["variable"] == "domain":
        return "the domain"
    return "beyond the token" + ("" if row["min_count"] == 1 else f", types met {row['min_count']} times")
