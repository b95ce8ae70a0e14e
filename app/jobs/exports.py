"""Exports of a trace: its tables, its report or its pictures in one zip."""

import importlib.util
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.jobs import registry
from mixtral_probe.report import write_images, write_report

KIND = "export"
FORMS = {
    "csv": "Tables as CSV",
    "parquet": "Tables as Parquet",
    "html": "Report: one HTML page and the tables",
    "png": "Pictures as PNG",
}
FILE = "export.zip"


def missing_package(form: str) -> str:
    """Say which package a form needs and is not installed; empty where none is missing."""
    if form == "png" and importlib.util.find_spec("kaleido") is None:
        return (
            "PNG pictures need the package kaleido, which is not installed; install "
            "`mixtral-probe[images]` and Chrome or Chromium, or take the HTML report"
        )
    return ""


def start(name: str, trace: Path, form: str) -> str:
    """Put the export of a trace in the queue and return its job's id.

    Args:
        name: of the trace, on the page and in the file.
        trace: its folder.
        form: one of `FORMS`.

    Raises:
        InputError: the queue is full.
    """

    def work(path: Path, report: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
        with tempfile.TemporaryDirectory(prefix="mixtral-probe-export-", dir=path.parent) as folder:
            target = Path(folder) / name.replace("/", "_")
            if form == "png":
                files = write_images([trace], target)
            else:
                files = write_report(
                    [trace], target, format="parquet" if form == "parquet" else "csv", html=form == "html"
                )
            path.mkdir()
            with zipfile.ZipFile(path / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in files:
                    archive.write(file, f"{target.name}/{file.name}")

    return registry.submit("Export", f"{name} · {FORMS[form]}", work, KIND)
