"""Text coloured token by token: tokens as plain data, and the script and style that draw them on a page."""

from mixtral_probe.strip.attended import by_attention
from mixtral_probe.strip.tokens import (
    BREAK,
    GLYPH,
    TEXT,
    Bar,
    Part,
    Token,
    dimmed,
    parts,
    payload,
    pinned,
    script,
    style,
)
from mixtral_probe.strip.units import by_unit
from mixtral_probe.strip.windows import TokenRange, by_expert, by_loss, windows

__all__ = [
    "BREAK",
    "GLYPH",
    "TEXT",
    "Bar",
    "Part",
    "Token",
    "TokenRange",
    "by_attention",
    "by_expert",
    "by_loss",
    "by_unit",
    "dimmed",
    "parts",
    "payload",
    "pinned",
    "script",
    "style",
    "windows",
]
