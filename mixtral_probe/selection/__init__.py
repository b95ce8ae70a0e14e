"""Selections: which tokens count in which layer, the language for it, and its form as an address."""

from mixtral_probe.selection.box import boxed, unboxed
from mixtral_probe.selection.errors import Place, SelectionError
from mixtral_probe.selection.fields import FIELDS
from mixtral_probe.selection.mask import mask
from mixtral_probe.selection.named import SLICES
from mixtral_probe.selection.narrow import select
from mixtral_probe.selection.numbers import Numbers
from mixtral_probe.selection.parse import Expression, parse
from mixtral_probe.selection.selection import Selection

__all__ = [
    "FIELDS",
    "SLICES",
    "Expression",
    "Numbers",
    "Place",
    "Selection",
    "SelectionError",
    "boxed",
    "mask",
    "parse",
    "select",
    "unboxed",
]
