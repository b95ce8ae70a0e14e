"""What type checkers and editors see: every public name with its signature."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jedi
import pytest

import mixtral_probe as mp
from mixtral_probe.model.generation.options import GenerationKeywords, GenerationOptions

USES = Path(__file__).parent / "typing_mistakes" / "uses.py"
PACKAGE = Path(mp.__file__).parent


def completions(text):
    return {found.name for found in jedi.Script(text, path=str(PACKAGE.parent / "notebook.py")).complete()}


@pytest.mark.slow
def test_a_checker_reports_the_mistakes_and_nothing_else():
    command = [sys.executable, "-m", "mypy", "--config-file", str(PACKAGE.parent / "pyproject.toml"), str(USES)]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=False).stdout
    reported = {
        int(line.split(":")[1]) for line in shown.splitlines() if line.startswith("tests/") and " error: " in line
    }
    mistakes = {n for n, line in enumerate(USES.read_text().splitlines(), 1) if line.endswith("# mistake")}
    assert reported == mistakes, shown


def test_editors_complete_every_public_name():
    assert set(mp.__all__) <= completions("import mixtral_probe as mp\nmp.")


def test_editors_complete_methods_and_tables():
    assert {"trace", "what_if", "ablation"} <= completions("import mixtral_probe as mp\nmp.Probe.")
    assert {"expert_load", "what_if"} <= completions("import mixtral_probe as mp\nmp.tables.")


def test_every_public_name_is_declared_for_checkers_too():
    text = (PACKAGE / "__init__.py").read_text()
    block = text.split("if TYPE_CHECKING:")[1].split("\n\n")[0]
    assert sorted(line.split(" as ")[-1] for line in block.splitlines() if " as " in line) == sorted(mp.__all__)


def test_keywords_of_generation_are_its_options():
    taken = {"max_new_tokens", "num_return_sequences", "return_dict_in_generate"}
    options = {f.name for f in fields(GenerationOptions) if not f.name.startswith("output_")} - taken
    assert set(GenerationKeywords.__annotations__) == options | {"min_length", "max_length"}
