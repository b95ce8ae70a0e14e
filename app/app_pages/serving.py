"""Serving: what this routing asks of several devices, of a cache of experts, of limited capacity and of skipping."""

import streamlit as st

from app.sections import serving as sections
from app.state import controls
from app.widgets import choices, large_tables, texts

view = controls.view()
texts.title(
    "Serving",
    "What this routing would ask of a server: of several devices, a cache, experts of limited capacity or left out.",
)
section = choices.one_of(
    "Question", list(sections.SECTIONS), "serving", named=lambda name: sections.SECTIONS[name].title
)
st.markdown(sections.SECTIONS[section].about)
if large_tables.confirm(view, section):
    sections.show(view, section)
