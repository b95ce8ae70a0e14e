"""Expert load: how much each expert is used, where, by which domain, and how that compares with the real Mixtral."""

import streamlit as st

from app.sections import real_load
from app.state import controls
from app.widgets import cell_map, charts, choices, frames, texts, values
from mixtral_probe.stats import ALL

chosen = controls.chosen()
cell_map.follow(chosen, "load_map")
load, balance = chosen.table("expert_load"), chosen.table("balance")
layer, group = chosen.layer, chosen.group

texts.title("Expert load", "How much each expert is used, layer by layer, against even use and against chance.")
values.cards(
    frames.rows(balance, layer=layer, group=group),
    ("max_violation", "cv_squared", "normalized_entropy", "effective_experts", "dead_experts"),
)
metric = choices.table_metric("expert_load", key="load")

left, right = st.columns([1, 1], gap="large")
with left:
    charts.brush(
        chosen.figure("expert_load_map", "expert_load", metric=metric, group=group),
        frames.rows(load, group=group, metric=metric),
        "load_map",
        "expert_load",
    )
    cell_map.explain()
    values.expert_cards(load, chosen)
with right:
    charts.show(
        chosen.figure("expert_load", metric=metric, layer=layer, group=group),
        frames.rows(load, metric=metric, layer=layer, group=group),
        "load_bars",
        f"expert_load_layer_{layer}",
    )

left, right = st.columns([1, 1], gap="large")
with left:
    ranks = chosen.table("load_by_rank")
    charts.show(
        chosen.figure("load_by_rank", layer=layer, group=group),
        frames.rows(ranks, layer=layer, group=group),
        "load_rank",
        f"load_by_rank_layer_{layer}",
    )
with right:
    if set(load["group"]) > {ALL}:
        charts.show(
            chosen.figure("expert_load_groups", "expert_load", metric=metric, layer=layer),
            frames.rows(load, metric=metric, layer=layer),
            "load_groups",
            f"expert_load_by_domain_layer_{layer}",
        )
    else:
        st.info("These documents have no domain, so there is nothing to compare.")

charts.show(chosen.figure("balance", group=group), frames.rows(balance, group=group), "balance", "balance")
real_load.section()
