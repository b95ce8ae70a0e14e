"""The notebooks on the published counts run and print the published values."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

ANALYSES = Path(__file__).parents[1] / "analyses"
NOTEBOOKS = ["real_mixtral"]
# The kernel's sockets are left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_has_no_outputs(name):
    cells = [cell for cell in nbformat.read(ANALYSES / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    assert sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines()) <= 60
    assert not any(cell.outputs for cell in cells)


def test_the_real_mixtral_shows_the_published_numbers(tmp_path):
    notebook = nbformat.read(ANALYSES / "real_mixtral.ipynb", 4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    # Mixtral of Experts, table 5, and the values of the shelf of formulas, which were computed elsewhere.
    for value in ("0.098", "0.303", "0.632", "12.000", "0.003144", "0.008953", "0.08654", "0.14224"):
        assert value in printed, value
    assert re.search(r"c4 +0 +7 +0\.08654 +0\.135[23]", printed)
    assert "13.2" in printed
    assert "14.1" in printed
