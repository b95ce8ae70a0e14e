"""Text coloured token by token: what is drawn, and the script and style that draw it in a page or a notebook."""

from mixtral_probe.strip.routed import Choice, choices, place_of, routed, text_of
from mixtral_probe.strip.tokens import BREAK, GLYPH, TEXT, Bar, Part, Token, parts, payload, script, style

__all__ = [
    "BREAK",
    "GLYPH",
    "TEXT",
    "Bar",
    "Choice",
    "Part",
    "Token",
    "choices",
    "parts",
    "payload",
    "place_of",
    "routed",
    "script",
    "style",
    "text_of",
]
