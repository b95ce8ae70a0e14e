"""The notebooks on the traces that come with the project are short and run."""

import pytest

from tests.support.notebooks import ROOT, assert_short_and_without_outputs, executed, quiet

NOTEBOOKS = {
    "domains": "example.trace",
    "expert_load": "example.trace",
    "routing_in_time": "example.trace",
    "saturation": "training_traces",
    "vocabulary": "example.trace",
}
pytestmark = quiet


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_has_no_outputs(name):
    assert_short_and_without_outputs(name)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, tmp_path):
    if not (ROOT / "data" / NOTEBOOKS[name]).exists():
        pytest.skip(f"data/{NOTEBOOKS[name]} is not here")
    notebook = executed(name, tmp_path)
    assert all(cell.outputs for cell in notebook.cells[2:] if cell.cell_type == "code")
