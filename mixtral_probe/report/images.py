"""The figures of a report as PNG files."""

from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_folder
from mixtral_probe.paths import checked_path
from mixtral_probe.report.drawings import draw
from mixtral_probe.report.sources import sources_of
from mixtral_probe.report.write import MARKER
from mixtral_probe.tables import TABLES
from mixtral_probe.trace import Trace

WIDTH, SCALE = 1100, 2
"""Pixels of a figure, and how many times finer it is drawn."""


def write_images(traces: Sequence[Trace | str | PathLike[str]], out: str | PathLike[str]) -> list[Path]:
    """Draw the figures of every table but the per-token ones into a new folder, and return the files' paths.

    Args:
        traces: traces or the folders of saved ones.
        out: the folder, created here.

    Raises:
        InputError: the package that draws is not installed, or the folder exists.
    """
    if find_spec("kaleido") is None:
        raise InputError(
            "PNG pictures need the package kaleido, which is not installed; "
            "install mixtral-probe[images] and Chrome or Chromium, or write HTML"
        )
    folder = checked_path(out)
    if folder.exists():
        raise InputError(f"pictures are written into a new folder, got {folder}, which exists; name another")
    sources = sources_of(traces, None)
    names: list[str] = []

    def fill(work: Path) -> None:
        drawn: list[go.Figure] = []
        for source in sources:
            for spec in TABLES.values():
                for number, figure in enumerate([] if spec.per_token else draw(spec, source.table(spec))):
                    suffix = f"_{number + 1}" if number else ""
                    names.append(f"{source.name}_{spec.name}{suffix}.png")
                    drawn.append(figure.update_layout(paper_bgcolor="white"))  # paper has no page below it
        # All at once, because each call starts a browser of its own.
        heights = [figure.layout.height for figure in drawn]
        pio.write_images(drawn, [work / name for name in names], width=WIDTH, height=heights, scale=SCALE)

    write_folder(folder, MARKER, fill)
    return [folder / name for name in names]
