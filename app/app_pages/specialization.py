"""Specialization: what experts know of topics, words and places, and how choices hang together."""

import controls
import specialization_sections as sections
import streamlit as st
import words

chosen = controls.chosen()
words.title(
    "Specialization",
    "Whether experts keep to topics, words or places, and whether one choice tells of the next, against chance.",
)
SECTIONS = {
    "domains": ("Domains", sections.domains),
    "vocabulary": ("Vocabulary", sections.vocabulary),
    "information": ("Information", sections.information),
    "together": ("Chosen together", sections.together),
    "layers": ("Layer to layer", sections.layers),
    "repetition": ("Repetition", sections.repetition),
}
controls.keep_valid("section", list(SECTIONS))
section = st.segmented_control(
    "Question",
    list(SECTIONS),
    default="domains",
    required=True,
    format_func=lambda name: SECTIONS[name][0],
    key="section",
    bind="query-params",
    label_visibility="collapsed",
)
SECTIONS[section][1](chosen)
