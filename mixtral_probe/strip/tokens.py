"""Tokens as plain data, which the script in this folder turns into text."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

TEXT, GLYPH, BREAK = 0, 1, 2
"""Kinds of parts of a token's text: plain text; a sign for what is invisible; such a sign before a real line break."""
_SIGNS = {" ": ("␣", GLYPH), "\t": ("⇥", GLYPH), "\r": ("␍", GLYPH), "\n": ("⏎", BREAK)}
_JOINERS = "\u200c\u200d"
"""Invisible, but parts of words and of emoji."""
_TIP_CHARACTERS = 80

Part = tuple[str, int]


@dataclass(frozen=True)
class Bar:
    """One line of the small chart in a token's hover."""

    name: str
    value: float
    text: str
    color: str
    chosen: bool


@dataclass(frozen=True)
class Token:
    """One token as it is drawn."""

    row: int
    """Its row in the document; a click returns it."""
    text: str
    facts: list[tuple[str, str]]
    """Name and value, line by line, in its hover."""
    color: str = ""
    """Of its ground, as CSS; empty for none."""
    strength: float = 0.0
    """How opaque that ground is, in [0, 1]."""
    special: bool = False
    dim: bool = False
    """Whether it is outside of the selection."""
    pinned: bool = False
    """Whether others are compared with it."""
    bars: list[Bar] = field(default_factory=list)


def parts(text: str) -> list[Part]:
    """Return a text as pieces of plain text and signs for spaces, line breaks and other invisible characters.

    Nothing is markup: the pieces are for `textContent`. Controls, such as those that turn the direction of their
    neighbours, become their code point; so does half a surrogate pair, which JSON cannot carry.
    """
    if text.isprintable() and " " not in text:
        return [(text, TEXT)] if text else []
    pieces: list[Part] = []
    for character in text:
        sign = _SIGNS.get(character) or _sign(character)
        if sign is None and pieces and pieces[-1][1] == TEXT:
            pieces[-1] = (pieces[-1][0] + character, TEXT)
        else:
            pieces.append(sign or (character, TEXT))
    return pieces


def _sign(character: str) -> Part | None:
    if character.isprintable() or character in _JOINERS:
        return None
    return f"⟨U+{ord(character):04X}⟩", GLYPH


def dimmed(tokens: Sequence[Token], kept: Collection[int]) -> list[Token]:
    """Return tokens, dimmed where the row is not among those selected."""
    return [token if token.row in kept else _dim(token) for token in tokens]


def _dim(token: Token) -> Token:
    return replace(token, dim=True, facts=[*token.facts, ("selected", "no")])


def pinned(tokens: Sequence[Token], row: int) -> list[Token]:
    """Return tokens, with a frame around that of a row."""
    return [_pin(token) if token.row == row else token for token in tokens]


def _pin(token: Token) -> Token:
    return replace(token, pinned=True, facts=[*token.facts, ("pinned", "yes")])


def payload(tokens: Sequence[Token], selected: int | None, label: str) -> dict[str, Any]:
    """Return the data of the component."""
    return {"tokens": [_drawn(token) for token in tokens], "selected": selected, "label": label}


def _drawn(token: Token) -> dict[str, Any]:
    pieces = parts(token.text)
    short = parts(token.text[:_TIP_CHARACTERS])
    if len(token.text) > _TIP_CHARACTERS:
        short.append((f"… {len(token.text):,} characters", GLYPH))
    spoken = "".join(text for text, _ in short)
    return {
        "row": token.row,
        "parts": pieces,
        "tip": short,
        "label": ", ".join([spoken, *(f"{name} {value}" for name, value in token.facts)]),
        "facts": token.facts,
        "color": token.color,
        "strength": token.strength,
        "special": token.special,
        "dim": token.dim,
        "pinned": token.pinned,
        # Lines break before words, not inside them.
        "breakable": not token.text[:1].isalnum() or token.special,
        "bars": [dict(vars(bar)) for bar in token.bars],
    }


def script() -> str:
    """Return JavaScript that defines `drawStrip({data, parentElement, setStateValue})`; its export has to follow."""
    return _asset("token_strip.js")


def style() -> str:
    """Return CSS of the strip and its hover, in the colours of the variables `--st-…` around it."""
    return _asset("token_strip.css")


def _asset(name: str) -> str:
    return files("mixtral_probe.strip").joinpath(name).read_text(encoding="utf-8")
