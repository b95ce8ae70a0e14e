"""Attention: what every head does, who looks at whom in one, and where the tokens looked at were sent."""

import attention_maps
import attention_sections
import controls
import documents
import streamlit as st
import words

from mixtral_probe import tables

chosen = controls.chosen()
words.title(
    "Attention",
    "What the attention heads do, who looks at whom in one of them, and how that goes with the routing.",
)
summary = chosen.table("attention_summary")
if len(summary):
    attention_sections.overview(chosen, summary)
    st.header("One head", anchor=False)
shown = documents.choose(chosen)
maps = attention_maps.maps(chosen, shown)
if maps is None:
    st.stop()
if summary.empty:
    attention_sections.overview(chosen, tables.attention_summary(maps.trace))
    st.header("One head", anchor=False)
head = attention_sections.head_choice(maps)
query, key = attention_sections.marked(maps, shown)
name = f"attention_document_{shown.number}_layer_{chosen.layer}_head_{'mean' if head is None else head}"
attention_sections.one_map(maps, head, query, key, name)
attention_sections.text(maps, shown, head, query)
attention_sections.all_heads(maps, f"attention_document_{shown.number}_layer_{chosen.layer}")
attention_sections.with_routing(chosen, maps)
attention_sections.lens(chosen, shown, maps)
