"""The wheel has all that a user needs to start from an empty folder, and nothing of the workshop."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUNDLED = "mixtral_probe/_bundled/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    hatchling = pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    assert hatchling
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def names(wheel):
    return set(wheel.namelist())


def test_the_dashboard_and_its_data_travel(names):
    needed = (
        "app/streamlit_app.py",
        "app/.streamlit/config.toml",
        "data/mixtral-mini/model.safetensors",
        "data/mixtral-mini/config.json",
        "data/mixtral-mini/tokenizer.json",
        "data/corpus/README.md",
        "data/real_mixtral/README.md",
    )
    assert {BUNDLED + name for name in needed} <= names
    assert sum(name.startswith(f"{BUNDLED}data/corpus/") and name.endswith(".jsonl") for name in names) >= 12
    assert {"mixtral_probe/py.typed", "mixtral_probe/report/page.js"} <= names


def test_every_page_travels(names):
    pages = {page.relative_to(ROOT).as_posix() for page in (ROOT / "app").rglob("*.py")}
    assert {BUNDLED + page for page in pages} <= names


def test_all_data_but_the_scripts_travels(names):
    listed = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    assert {BUNDLED + name for name in listed.stdout.split() if not name.endswith(".py")} <= names


def test_the_workshop_stays_at_home(names):
    unwanted = [
        name
        for name in names
        if "__pycache__" in name
        or name.endswith(".pyc")
        or (name.startswith(f"{BUNDLED}data/") and name.endswith(".py"))
    ]
    assert not unwanted
    assert not any(name.startswith(("tests/", "benchmarks/", ".ci")) for name in names)
    assert {name.split("/")[0] for name in names if not name.startswith("mixtral_probe-")} == {"mixtral_probe"}


def test_the_command_and_the_licence(wheel, names):
    [entry] = [name for name in names if name.endswith("entry_points.txt")]
    assert "mixtral-probe = mixtral_probe.cli:main" in wheel.read(entry).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_unpacked_wheel_finds_its_app_and_its_model(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    wheel.extractall(site)
    code = (
        "from mixtral_probe.cli.dashboard import _app_folder; from mixtral_probe.resources import data_path;"
        "from mixtral_probe import MixtralConfig;"
        "print(_app_folder()); print(data_path('corpus')); MixtralConfig.from_file(data_path('mixtral-mini'))"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=True)
    app, corpus = map(Path, done.stdout.split())
    assert app == site / BUNDLED / "app"
    assert corpus == site / BUNDLED / "data" / "corpus"


def test_every_dependency_is_pinned_to_what_was_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {entry.split(">=")[0].lower() for entry in wanted} <= pinned
