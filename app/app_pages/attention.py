"""Attention: what every head does, which tokens attend to which in one, and the experts of the attended tokens."""

import streamlit as st

from app.sections import attention, attention_maps
from app.state import controls
from app.widgets import documents, texts
from mixtral_probe import tables

view = controls.view()
texts.title(
    "Attention",
    "What the attention heads do, which tokens attend to which in one of them, and how this relates to the routing.",
)
summary = view.table("attention_summary")
if len(summary):
    attention.overview(view, summary)
    st.header("One head", anchor=False)
excerpt = documents.choose(view)
maps = attention_maps.maps(view, excerpt)
if maps is None:
    st.stop()
if summary.empty:
    attention.overview(view, tables.attention_summary(maps.trace))
    st.header("One head", anchor=False)
head = attention.head_choice(maps)
query, key = attention.query_and_key(maps, excerpt)
name = f"attention_document_{excerpt.number}_layer_{view.layer}_head_{'mean' if head is None else head}"
attention.one_map(maps, head, query, key, name)
attention.text(maps, excerpt, head, query)
attention.all_heads(maps, f"attention_document_{excerpt.number}_layer_{view.layer}")
attention.with_routing(view, maps)
attention.lens(view, excerpt, maps)
