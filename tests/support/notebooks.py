"""Running the notebooks of analyses/ in tests."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

ROOT = Path(__file__).parents[2]
# The kernel's sockets are left to the garbage collector.
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def assert_short_and_without_outputs(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines()) <= 60
    assert not any(cell.outputs for cell in cells)


def executed(name: str, folder: Path) -> Any:
    """The notebook after a run in a folder."""
    notebook = read(name)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def read(name: str) -> Any:
    return nbformat.read(ROOT / "analyses" / f"{name}.ipynb", 4)
