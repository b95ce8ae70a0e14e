"""Specialization: what experts know of topics, words and places, and how choices hang together."""

import controls
import specialization_sections as sections
import topic_section
import words

chosen = controls.chosen()
words.title(
    "Specialization",
    "Whether experts keep to topics, words or places, and whether one choice tells of the next, against chance.",
)
SECTIONS = {
    "domains": ("Domains", sections.domains),
    "topics": ("Topic or words", topic_section.topics),
    "relevance": ("Relevance", sections.relevance),
    "vocabulary": ("Vocabulary", sections.vocabulary),
    "information": ("Information", sections.information),
    "context": ("Neighbours", sections.context),
    "together": ("Chosen together", sections.together),
    "layers": ("Layer to layer", sections.layers),
    "repetition": ("Repetition", sections.repetition),
}
section = words.one_of("Question", list(SECTIONS), "section", named=lambda name: SECTIONS[name][0])
SECTIONS[section][1](chosen)
