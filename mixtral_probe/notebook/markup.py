"""Small pieces of HTML that need no script: every text in them is escaped."""

from collections.abc import Iterable, Sequence
from importlib.resources import files

import numpy as np

from mixtral_probe.report.page import text
from mixtral_probe.strip import style

_CELL = (26, 18)
"""Pixels of a cell, across and down."""
_EDGE = (58, 18)
"""Pixels for the names of rows and columns."""
_INK = "#2172b0"


def page(*parts: str, identity: str = "") -> str:
    """Return parts as one element, with the style they need, which holds inside it alone."""
    mark = f' id="{identity}"' if identity else ""
    inside = "\n".join(part for part in parts if part)
    css = f"{asset('notebook.css')}\n.mixtral-probe {{\n{style()}}}"
    return f'<div class="mixtral-probe"{mark}>\n<style>{css}</style>\n{inside}\n</div>'


def asset(name: str) -> str:
    """Return the text of a file of this room."""
    return files("mixtral_probe.notebook").joinpath(name).read_text(encoding="utf-8")


def head(lines: str) -> str:
    """Return the `repr` of an object as a heading and a list of facts.

    Args:
        lines: its `repr`: a first line, then indented ones of a name and a value.
    """
    first, *others = lines.splitlines()
    pairs = [line.strip().split(None, 1) for line in others]
    facts = "".join(f"<dt>{text(pair[0])}</dt><dd>{text(pair[-1] if pair[1:] else '')}</dd>" for pair in pairs)
    return f'<p class="head">{text(first)}</p>' + (f'<dl class="about">{facts}</dl>' if facts else "")


def sentences(texts: Iterable[str]) -> str:
    """Return sentences as a list, the empty ones left out."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in texts if sentence)
    return f"<ul>{items}</ul>" if items else ""


def heat_map(
    values: np.ndarray, rows: Sequence[object], columns: Sequence[object], hover: np.ndarray, *, axes: tuple[str, str]
) -> str:
    """Return a picture in SVG: the stronger a cell, the larger its value; a missing one is empty.

    Args:
        values: [R, C].
        rows: [R] names.
        columns: [C] names.
        hover: [R, C] texts.
        axes: names of the rows and of the columns.
    """
    width, height = (_EDGE[i] + _CELL[i] * values.shape[1 - i] + 2 * (1 - i) for i in (0, 1))
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    floor = min(low, 0.0)
    strength = (values - floor) / ((high - floor) or 1)
    cells = [
        _cell(row, column, float(strength[row, column]), str(hover[row, column]))
        for row, column in np.ndindex(values.shape)
        if np.isfinite(values[row, column])
    ]
    names = [_name(_EDGE[0] - 6, _EDGE[1] + (i + 0.72) * _CELL[1], "end", name) for i, name in enumerate(rows)]
    names += [_name(_EDGE[0] + (i + 0.5) * _CELL[0], 13, "middle", name) for i, name in enumerate(columns)]
    label = text(f"{axes[0]} by {axes[1]}, {values.shape[0]} by {values.shape[1]} cells")
    return (
        f'<svg role="img" aria-label="{label}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"{_name(0, 13, 'start', axes[0])}{''.join(names)}{''.join(cells)}</svg>"
    )


def _cell(row: int, column: int, strength: float, hover: str) -> str:
    x, y = _EDGE[0] + column * _CELL[0], _EDGE[1] + row * _CELL[1]
    return (
        f'<rect x="{x}" y="{y}" width="{_CELL[0] - 1}" height="{_CELL[1] - 1}" fill="{_INK}" '
        f'fill-opacity="{strength:.3f}"><title>{text(hover)}</title></rect>'
    )


def _name(x: float, y: float, anchor: str, name: object) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text(name)}</text>'
