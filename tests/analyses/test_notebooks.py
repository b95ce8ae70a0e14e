"""The notebooks are short and run: on published counts, on the traces of the project, and on the embedded model."""

import re

import pytest

from tests.support.notebooks import ROOT, Kernel, assert_short_and_without_outputs, quiet

EXPERIMENTS = ("what_if", "ablation", "experts", "timing")
TRACES = {
    "domains": "example.trace",
    "expert_load": "example.trace",
    "routing_in_time": "example.trace",
    "saturation": "training_traces",
    "vocabulary": "example.trace",
}
PUBLISHED = "real_mixtral"
pytestmark = quiet


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.shut_down()


@pytest.mark.parametrize("name", [*EXPERIMENTS, *TRACES, PUBLISHED])
def test_a_notebook_is_short_and_has_no_outputs(name):
    assert_short_and_without_outputs(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_notebook_of_experiments_runs(kernel, name, tmp_path):
    assert all(cell.outputs for cell in kernel.executed(name, tmp_path).cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", TRACES)
def test_a_notebook_of_traces_runs(kernel, name, tmp_path):
    if not (ROOT / "data" / TRACES[name]).exists():
        pytest.skip(f"data/{TRACES[name]} is not here")
    notebook = kernel.executed(name, tmp_path)
    assert all(cell.outputs for cell in notebook.cells[2:] if cell.cell_type == "code")


def test_the_real_mixtral_shows_the_published_numbers(kernel, tmp_path):
    notebook = kernel.executed(PUBLISHED, tmp_path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    # Mixtral of Experts, table 5, and the values of the shelf of formulas, which were computed elsewhere.
    for value in ("0.098", "0.303", "0.632", "12.000", "0.003144", "0.008953", "0.08654", "0.14224"):
        assert value in printed, value
    assert re.search(r"c4 +0 +7 +0\.08654 +0\.135[23]", printed)
    assert "13.2" in printed
    assert "14.1" in printed
