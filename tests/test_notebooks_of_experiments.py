"""The notebooks on experiments are short, and run on the embedded model."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ("what_if", "ablation", "experts", "timing")
# The kernel's sockets are left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_has_no_outputs(name):
    cells = [c for c in nbformat.read(ROOT / "analyses" / f"{name}.ipynb", 4).cells if c.cell_type == "code"]
    assert sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines()) <= 60
    assert not any(cell.outputs for cell in cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, tmp_path):
    notebook = nbformat.read(ROOT / "analyses" / f"{name}.ipynb", 4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
