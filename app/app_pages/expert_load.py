"""Expert load: how much each expert is used, where, by which domain, and how that compares with the real Mixtral."""

import streamlit as st

from app.sections import real_load
from app.state import controls
from app.widgets import cell_map, charts, choices, frames, texts, values
from mixtral_probe.stats import ALL

view = controls.view()
cell_map.follow(view, "load_map")
load, balance = view.table("expert_load"), view.table("balance")
layer, group = view.layer, view.group

texts.title("Expert load", "How much each expert is used, layer by layer, against even use and against chance.")
values.cards(
    frames.rows(balance, layer=layer, group=group),
    ("max_violation", "cv_squared", "normalized_entropy", "effective_experts", "dead_experts"),
)
metric = choices.table_metric("expert_load", key="load")

left, right = st.columns([1, 1], gap="large")
with left:
    charts.brush(
        view.figure("expert_load_map", "expert_load", metric=metric, group=group),
        frames.rows(load, group=group, metric=metric),
        "load_map",
        "expert_load",
    )
    cell_map.explain()
    values.expert_cards(load, view)
with right:
    charts.show(
        view.figure("expert_load", metric=metric, layer=layer, group=group),
        frames.rows(load, metric=metric, layer=layer, group=group),
        "load_bars",
        f"expert_load_layer_{layer}",
    )

left, right = st.columns([1, 1], gap="large")
with left:
    ranks = view.table("load_by_rank")
    charts.show(
        view.figure("load_by_rank", layer=layer, group=group),
        frames.rows(ranks, layer=layer, group=group),
        "load_rank",
        f"load_by_rank_layer_{layer}",
    )
with right:
    if set(load["group"]) > {ALL}:
        charts.show(
            view.figure("expert_load_groups", "expert_load", metric=metric, layer=layer),
            frames.rows(load, metric=metric, layer=layer),
            "load_groups",
            f"expert_load_by_domain_layer_{layer}",
        )
    else:
        st.info("These documents have no domain, so there is nothing to compare.")

charts.show(view.figure("balance", group=group), frames.rows(balance, group=group), "balance", "balance")
real_load.section()
