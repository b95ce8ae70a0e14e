"""The parts of the page Serving, a question at a time."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.state import controls
from app.widgets import charts, frames, values


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
        "load; tried on the other half of the documents it shows what such a placement is worth on new texts. In "
        "random order the documents exchange their tokens: what is lost beyond that, the other half could not show.",
    ),
    "cache_simulation": Section(
        "Expert cache",
        "How often an expert is in fast memory when a token needs it, if only some of a layer's experts fit there. "
        "Belady's policy uses the tokens still to come, and no policy can do better. In random order, windows exchange "
        "their tokens: what is above uniform routing comes from uneven loads, and the rest, up to the value, from "
        "tokens that resemble their neighbours and their document.",
    ),
    "capacity_simulation": Section(
        "Capacity",
        "An expert takes no more choices of a batch than the capacity factor times its even part; those above are "
        "dropped. Each window of text is a batch here. In random order, windows exchange their tokens, so that uneven "
        "loads alone drop choices; the rest is dropped because a window has experts of its own.",
    ),
    "skipping_simulation": Section(
        "Skipping",
        "A router could leave out a token's last expert where it weighs little against the first: below the threshold "
        "the token does without it, which saves that computation. The more even the weights, the less can be skipped.",
    ),
    "paths": Section(
        "Paths",
        "The first choices of a token through all layers, 3-0-7 for expert 3, then 0, then 7; and how often they would "
        "come together if the layers chose independently.",
    ),
}


def show(view: controls.PageView, name: str) -> None:
    """Draw the numbers of all layers together and those of the chosen layer, or why there are none."""
    table = view.table(name)
    group = frames.group_of(table, view)
    rows = frames.rows(table, group=group)
    if frames.explain_missing(rows):
        return
    if name == "paths":
        _paths(view, rows, group)
    else:
        _by_layer(view, name, rows, group)
    if name == "skipping_simulation":
        _ratio(view, rows, group)


def _paths(view: controls.PageView, rows: pd.DataFrame, group: str) -> None:
    values.cards(rows[rows["path"].isna().to_numpy(dtype=bool)], ("distinct_paths", "path_entropy_bits"))
    charts.show(view.figure("paths", group=group), frames.rows(rows, metric="path_share"), "paths", "paths")


def _ratio(view: controls.PageView, rows: pd.DataFrame, group: str) -> None:
    rows = frames.rows(rows[rows["layer"].notna().to_numpy(dtype=bool)], metric="weight_ratio")
    figure = view.figure("weight_ratio", "skipping_simulation", group=group)
    charts.show(figure, rows, "weight_ratio", "weight_ratio")


def _by_layer(view: controls.PageView, name: str, rows: pd.DataFrame, group: str) -> None:
    left, right = st.columns([1, 1], gap="large")
    with left:
        together = rows[rows["layer"].isna().to_numpy(dtype=bool)]
        charts.show(view.figure(name, group=group), together, name, name)
    with right:
        at_layer = frames.rows(rows, layer=view.layer)
        figure = view.figure(name, layer=view.layer, group=group)
        charts.show(figure, at_layer, f"{name}_layer", f"{name}_layer_{view.layer}")
