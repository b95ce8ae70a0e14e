"""Runs of the embedded model with and without edits."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app.jobs import models
from mixtral_probe import edits
from mixtral_probe.trace import WhatIf

TEXT = "def add(a, b):\n    return a + b\n\n\ndef multiply(a, b):\n    return a * b\n"
CHARACTERS = 2_000
CONTINUED = 24
"""Tokens of a continuation."""
PLACEBOS = 39
"""Draws of the placebo."""


@st.cache_resource(max_entries=32, show_spinner=False)
def _found(text: str, typed: tuple[str, ...], generate: int | None, placebos: int) -> list[WhatIf]:
    """The result of a run, once it has ended; until then nothing."""
    return []


def finished(text: str, typed: tuple[str, ...], generate: int | None = None) -> bool:
    """Whether a run with its placebo has ended before."""
    return bool(_found(text, typed, generate, PLACEBOS))


def estimate(text: str, typed: tuple[str, ...], generate: int | None = None) -> float:
    """Estimate the seconds of a run with its placebo; arguments and errors as of ``run``."""
    document = [{"id": "typed text", "text": text}]
    how: dict[str, Any] = {"generate": generate, "placebos": PLACEBOS}
    return models.embedded().estimate_what_if(document, _parsed(typed), **how).seconds


def run(
    text: str,
    typed: tuple[str, ...],
    generate: int | None = None,
    *,
    placebos: int = PLACEBOS,
    on_progress: Callable[[Any], None] | None = None,
) -> WhatIf:
    """Run a text without edits, with them, and with draws of their placebo; what has ended before is not run again.

    Args:
        text: one document.
        typed: the edits as `mp.edits.parse` reads them.
        generate: continue the text by at most so many tokens.
        placebos: draws, 0 for none.
        on_progress: called between draws; Streamlit ends the run there when the page changes.

    Raises:
        InputError: a line is not an edit, or does not fit the model or the text.
    """
    found = _found(text, typed, generate, placebos)
    if not found:
        document = [{"id": "typed text", "text": text}]
        how: dict[str, Any] = {"generate": generate, "placebos": placebos, "on_progress": on_progress}
        found.append(models.embedded().what_if(document, _parsed(typed), **how))
    return found[0]


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
