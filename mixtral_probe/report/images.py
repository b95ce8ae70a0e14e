"""The figures of a report as PNG files."""

import importlib.util
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from mixtral_probe.errors import InputError
from mixtral_probe.report.drawings import draw
from mixtral_probe.report.sources import sources_of
from mixtral_probe.tables import TABLES
from mixtral_probe.trace import Trace

WIDTH, SCALE = 1100, 2
"""Pixels of a figure, and how many times finer it is drawn."""


def write_images(traces: Sequence[Trace | str | PathLike[str]], out: str | PathLike[str]) -> list[Path]:
    """Draw the figures of every table but the per-token ones into a new folder; returns the files' paths.

    Args:
        traces: traces or the folders of saved ones.
        out: the folder, made here.

    Raises:
        InputError: the package that draws is not installed, or the folder is there already.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise InputError(
            "PNG pictures need the package kaleido, but it is not installed; "
            "install mixtral-probe[images] and Chrome or Chromium, or write HTML"
        )
    folder = Path(out)
    if folder.exists():
        raise InputError(f"pictures are written into a new folder, but {folder} is there already; name another")
    folder.mkdir(parents=True)
    files: list[Path] = []
    for source in sources_of(traces, None):
        for spec in TABLES.values():
            for number, figure in enumerate([] if spec.per_token else draw(spec.name, source.table(spec))):
                mark = f"_{number + 1}" if number else ""
                files.append(folder / f"{source.name}_{spec.name}{mark}.png")
                figure.write_image(files[-1], width=WIDTH, height=figure.layout.height, scale=SCALE)
    return files
