"""Specialization: how experts depend on topics, words and positions, and how choices depend on each other."""

from app.sections import specialization as sections
from app.sections import topics
from app.state import controls
from app.widgets import choices, texts

view = controls.view()
texts.title(
    "Specialization",
    "Whether experts specialize in topics, words or positions, and whether one choice predicts the next.",
)
SECTIONS = {
    "domains": ("Domains", sections.domains),
    "topics": ("Topic or words", topics.topics),
    "relevance": ("Relevance", sections.relevance),
    "vocabulary": ("Vocabulary", sections.vocabulary),
    "information": ("Information", sections.information),
    "context": ("Neighbours", sections.context),
    "together": ("Chosen together", sections.together),
    "layers": ("Layer to layer", sections.layers),
    "repetition": ("Repetition", sections.repetition),
}
section = choices.one_of("Question", list(SECTIONS), "section", named=lambda name: SECTIONS[name][0])
SECTIONS[section][1](view)
