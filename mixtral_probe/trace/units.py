"""Tokens grouped into words, lines and sentences."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError

UNITS = ("token", "word", "line", "sentence")
"""What tokens can be grouped into, finest first."""
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s+[^\s])(?!\s+[a-z])(?:\s*\n)?|\n\s*\n|[。！？][」』]?""")


def unit_numbers(pieces: Sequence[str], unit: str, starts: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    r"""[T] the number of each token's unit, from 0, growing along the text.

    A word is a run of letters, digits, `_` and inner apostrophes, with the white space that its first token begins
    with; every other token is a unit by itself. A line ends with the token that holds its line break. A sentence ends
    at `. ! ? …` (and closing quotes or brackets) before white space and no small letter, at `。！？`, and at an empty
    line, so an abbreviation before a capital splits one in two. No token is split.

    Args:
        pieces: [T] the tokens' texts.
        unit: one of `UNITS`.
        starts: [T] True where a unit begins regardless of the texts, as at a new document.

    Raises:
        InputError: there is no such unit.
    """
    if unit not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
    begins = np.zeros(len(pieces), dtype=bool) if starts is None else starts.astype(bool)
    begins[:1] = True
    begins |= _BEGINS[unit](pieces)
    return np.cumsum(begins) - 1


def _tokens(pieces: Sequence[str]) -> NDArray[np.bool_]:
    return np.ones(len(pieces), dtype=bool)


def _words(pieces: Sequence[str]) -> NDArray[np.bool_]:
    before = ["", *pieces[:-1]] if len(pieces) else []
    inside = [_in_word(left[-1:]) and _in_word(right[:1]) for left, right in zip(before, pieces, strict=True)]
    return ~np.array(inside, dtype=bool)


def _in_word(character: str) -> bool:
    return character.isalnum() or (character != "" and character in "_'’")


def _lines(pieces: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([False, *("\n" in piece for piece in pieces)], dtype=bool)[: len(pieces)]


def _sentences(pieces: Sequence[str]) -> NDArray[np.bool_]:
    ends = [match.end() for match in _SENTENCE_END.finditer("".join(pieces))]
    offsets = np.cumsum([0, *map(len, pieces)])[: len(pieces)]
    passed = np.searchsorted(np.array(ends, dtype=np.int64), offsets, side="right")
    return np.diff(passed, prepend=0) > 0


_BEGINS = {"token": _tokens, "word": _words, "line": _lines, "sentence": _sentences}
