"""The notebooks on experiments are short, and run on the embedded model."""

import pytest

from tests.support.notebooks import assert_short_and_without_outputs, executed, quiet

NOTEBOOKS = ("what_if", "ablation", "experts", "timing")
pytestmark = quiet


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_has_no_outputs(name):
    assert_short_and_without_outputs(name)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, tmp_path):
    assert all(cell.outputs for cell in executed(name, tmp_path).cells if cell.cell_type == "code")
