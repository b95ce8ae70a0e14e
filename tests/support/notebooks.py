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


class Kernel:
    """One kernel for several notebooks, each of which begins without variables and in a folder of its own."""

    def __init__(self) -> None:
        self._client = nbclient.NotebookClient(nbformat.v4.new_notebook(), timeout=600)

    def executed(self, name: str, folder: Path) -> Any:
        """The notebook after a run in a folder."""
        notebook = read(name)
        begin = nbformat.v4.new_code_cell(f"%reset -f\nimport os\nos.chdir({str(folder)!r})\ndel os")
        notebook.cells.insert(0, begin)
        self._client.nb = notebook
        self._client.execute(cleanup_kc=False)
        del notebook.cells[0]
        return notebook

    def shut_down(self) -> None:
        """End the kernel."""
        self._client.nb = nbformat.v4.new_notebook()
        self._client.execute(cleanup_kc=True)


def read(name: str) -> Any:
    return nbformat.read(ROOT / "analyses" / f"{name}.ipynb", 4)
