"""The notebooks on the published counts run and print the published values."""

import re

import pytest

from tests.support.notebooks import assert_short_and_without_outputs, executed, quiet

NOTEBOOKS = ["real_mixtral"]
pytestmark = quiet


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_has_no_outputs(name):
    assert_short_and_without_outputs(name)


def test_the_real_mixtral_shows_the_published_numbers(tmp_path):
    notebook = executed("real_mixtral", tmp_path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    # Mixtral of Experts, table 5, and the values of the shelf of formulas, which were computed elsewhere.
    for value in ("0.098", "0.303", "0.632", "12.000", "0.003144", "0.008953", "0.08654", "0.14224"):
        assert value in printed, value
    assert re.search(r"c4 +0 +7 +0\.08654 +0\.135[23]", printed)
    assert "13.2" in printed
    assert "14.1" in printed
