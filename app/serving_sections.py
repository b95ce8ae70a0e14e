"""What the page Serving shows, a question at a time."""

from dataclasses import dataclass

import charts
import controls
import pandas as pd
import settings
import streamlit as st
import words

from mixtral_probe import tables
from mixtral_probe.stats import ALL


@dataclass(frozen=True)
class Section:
    """A question about serving; its key is the name of a table and of its figure."""

    title: str
    about: str
    """What the numbers mean, in Markdown."""


SECTIONS = {
    "placement_simulation": Section(
        "Devices",
        "Each device holds its part of a layer's experts, and all wait for the busiest. EPLB places experts by their "
        "load; tried on the other half of the documents it shows what such a placement is worth on new texts.",
    ),
    "cache_simulation": Section(
        "Expert cache",
        "How often an expert is at hand when a token needs it, if only some of a layer's experts fit into fast memory. "
        "Belady knows the future and is the best that any policy can do.",
    ),
    "capacity_simulation": Section(
        "Capacity",
        "An expert takes no more choices of a batch than the capacity factor times its even part; those above are "
        "dropped. Each window of text is a batch here.",
    ),
    "paths": Section(
        "Paths",
        "The first choices of a token through all layers, 3-0-7 for expert 3, then 0, then 7; and how often they would "
        "come together if the layers chose independently.",
    ),
}


def ready(chosen: controls.Chosen, name: str) -> bool:
    """Whether a section may be computed; one that reads every token of a large trace asks first."""
    tokens = chosen.trace.num_tokens
    if tables.TABLES[name].source == "stats" or tokens <= settings.WHOLE_TRACE_TOKENS:
        return True
    asked = f"serving_{name}_{chosen.source.key}"
    if not st.session_state.get(asked):
        st.info(f"This reads the routes of all {tokens:,} tokens, which takes a while.")
        st.session_state[asked] = st.button("Compute it", key=f"{asked}_button", icon=":material/play_arrow:")
    return bool(st.session_state[asked])


def show(chosen: controls.Chosen, name: str) -> None:
    """The numbers of all layers together, and those of the chosen layer; or why there are none."""
    table = chosen.table(name)
    group = chosen.group if chosen.group in set(table["group"]) else ALL
    shown = words.rows(table, group=group)
    if not shown["value"].notna().any():
        st.info("Not enough data: no token is counted here.")
    elif name == "paths":
        _paths(chosen, shown, group)
    else:
        _by_layer(chosen, name, shown, group)


def _paths(chosen: controls.Chosen, shown: pd.DataFrame, group: str) -> None:
    words.numbers(shown[shown["path"].isna().to_numpy(dtype=bool)], ("distinct_paths", "path_entropy_bits"))
    charts.show(chosen.figure("paths", group=group), words.rows(shown, metric="path_share"), "paths", "paths")


def _by_layer(chosen: controls.Chosen, name: str, shown: pd.DataFrame, group: str) -> None:
    left, right = st.columns([1, 1], gap="large")
    with left:
        together = shown[shown["layer"].isna().to_numpy(dtype=bool)]
        charts.show(chosen.figure(name, group=group), together, name, name)
    with right:
        own = words.rows(shown, layer=chosen.layer)
        figure = chosen.figure(name, layer=chosen.layer, group=group)
        charts.show(figure, own, f"{name}_layer", f"{name}_layer_{chosen.layer}")
