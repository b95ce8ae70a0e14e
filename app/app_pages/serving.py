"""Serving: what this routing asks of several devices, of a cache of experts, of limited capacity and of skipping."""

import asking
import controls
import serving_sections as sections
import streamlit as st
import words

chosen = controls.chosen()
words.title(
    "Serving",
    "What this routing would ask of a server: of several devices, a cache, experts of limited capacity or left out.",
)
section = words.one_of("Question", list(sections.SECTIONS), "serving", named=lambda name: sections.SECTIONS[name].title)
st.markdown(sections.SECTIONS[section].about)
if asking.ready(chosen, section):
    sections.show(chosen, section)
