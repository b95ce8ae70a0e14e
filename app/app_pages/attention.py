"""Attention: what every head does, who looks at whom in one, and where the tokens looked at were sent."""

import streamlit as st

from app.sections import attention, attention_maps
from app.state import controls
from app.widgets import documents, texts
from mixtral_probe import tables

chosen = controls.chosen()
texts.title(
    "Attention",
    "What the attention heads do, who looks at whom in one of them, and how that goes with the routing.",
)
summary = chosen.table("attention_summary")
if len(summary):
    attention.overview(chosen, summary)
    st.header("One head", anchor=False)
shown = documents.choose(chosen)
maps = attention_maps.maps(chosen, shown)
if maps is None:
    st.stop()
if summary.empty:
    attention.overview(chosen, tables.attention_summary(maps.trace))
    st.header("One head", anchor=False)
head = attention.head_choice(maps)
query, key = attention.marked(maps, shown)
name = f"attention_document_{shown.number}_layer_{chosen.layer}_head_{'mean' if head is None else head}"
attention.one_map(maps, head, query, key, name)
attention.text(maps, shown, head, query)
attention.all_heads(maps, f"attention_document_{shown.number}_layer_{chosen.layer}")
attention.with_routing(chosen, maps)
attention.lens(chosen, shown, maps)
