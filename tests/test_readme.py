"""What README.md shows is what happens: its examples run, and print what stands below them but for the numbers."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_MEASURE = r"(?:under )?\d[\d.,]*(?:e[-+]?\d+)?(?: (?:T|G|M|k)?B\b| min\b| h\b| s\b)?"


def form(text):
    """A text without what may differ between machines and models: numbers, fingerprints, versions, and blanks."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "#", text)
    text = re.sub(r"(?<=software mixtral probe) +\S+|(?<=software torch) +\S+|\d{4}-\d\d-\d\dT[\d:]+\S*", " #", text)
    text = re.sub(rf"-?{_MEASURE}(?:\s*{_MEASURE})*", "#", text)
    return re.sub(r"[ \t]+", " ", text)


@pytest.mark.parametrize(
    ("document", "files"),
    [("README.md", {"thirteen.trace", "load.html"}), ("docs/command_line.md", {"add.trace", "add-report"})],
)
def test_the_examples_print_what_the_document_says(document, files, tmp_path):
    text = (ROOT / document).read_text(encoding="utf-8")
    place = importlib.util.spec_from_file_location("refresh_examples", ROOT / "docs" / "refresh_examples.py")
    refresh = importlib.util.module_from_spec(place)
    place.loader.exec_module(refresh)
    assert form(refresh.refreshed(text, tmp_path)) == form(text)
    assert files <= {entry.name for entry in tmp_path.iterdir()}


def test_form_hides_numbers_only():
    assert form("12 tokens, 1 min 15 s, 4.7 kB, -0.5") == "# tokens, #, #, #"
    assert form("under 1 s") == form("2 min 3 s")
    assert form("a  b") != form("a  c")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/command_line.md", "docs/numbers.md"])
def test_what_is_linked_is_there(document):
    place = ROOT / document
    text = place.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith(("http://", "https://"))]
    missing = [link for link in links if not (place.parent / link).exists()]
    assert not missing


def test_the_rooms_of_contributing_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z/]+)`", text, re.MULTILINE)
    assert len(named) >= 9
    assert not [room for room in named if not any((place / room).is_dir() for place in (ROOT / "mixtral_probe", ROOT))]


def test_the_example_of_the_model_page_runs():
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, {})


def test_make_has_the_targets_that_are_promised():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"^make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
