"""Runs of the embedded model with and without edits."""

from collections.abc import Sequence

import streamlit as st

from app.jobs import models
from mixtral_probe import edits
from mixtral_probe.trace import WhatIf

TEXT = "def add(a, b):\n    return a + b\n\n\ndef multiply(a, b):\n    return a * b\n"
CHARACTERS = 2_000
CONTINUED = 24
"""Tokens of a continuation."""


@st.cache_resource(max_entries=16, show_spinner="Running the text without and with the changes …")
def run(text: str, typed: tuple[str, ...], generate: int | None = None) -> WhatIf:
    """Run a text without edits, with them, and with their placebo.

    Args:
        text: one document.
        typed: the edits as `mp.edits.parse` reads them.
        generate: continue the text by at most so many tokens.

    Raises:
        InputError: a line is not an edit, or does not fit the model or the text.
    """
    return models.embedded().what_if([{"id": "typed text", "text": text}], _parsed(typed), generate=generate)


def file(typed: Sequence[str]) -> str:
    """Write edits as the file that `edits.load` and the command line read."""
    return edits.to_json(_parsed(typed))


def lines(content: str) -> str:
    """Read the edits of such a file, a line each.

    Raises:
        InputError: it is not such a file.
    """
    return "\n".join(edits.spell(edit) for edit in edits.from_json(content, replay=False))


def _parsed(typed: Sequence[str]) -> list[edits.Edit]:
    """Return the edits; they may not open a path on this machine, since anyone may have written their text."""
    return [edits.parse(line, replay=False) for line in typed]
