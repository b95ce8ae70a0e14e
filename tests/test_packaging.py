"""The wheel has all that a user needs to start from an empty folder, and nothing of the workshop."""

import json
import os
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.browser import free_port, wait_for
from tests.support.sessions import headings, visit

ROOT = Path(__file__).parents[1]
BUNDLED = "mixtral_probe/_bundled/"


SERVE = """
import atexit, gc, json, pathlib, sys, threading

_, port, target = sys.argv

def report():
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    registries = [one for one in gc.get_objects() if type(one).__name__ == "JobRegistry"]
    workers = [thread for thread in threading.enumerate() if thread.name == "jobs"]
    found = {"files": files, "registries": len(registries), "workers": len(workers), "path": sys.path}
    pathlib.Path(target).write_text(json.dumps(found))

atexit.register(report)
from mixtral_probe.cli import main
sys.argv[1:] = ["dashboard", "--port", port]
main()
"""
"""Serve the dashboard on a port, and at the end write what the process has loaded to a file."""


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
        "from mixtral_probe.cli.verbs.dashboard import _app_folder; from mixtral_probe.resources import data_path;"
        "from mixtral_probe import MixtralConfig;"
        "print(_app_folder()); print(data_path('corpus')); MixtralConfig.from_pretrained(data_path('mixtral-mini'))"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=True)
    app, corpus = map(Path, done.stdout.split())
    assert app == site / BUNDLED / "app"
    assert corpus == site / BUNDLED / "data" / "corpus"


def test_a_dashboard_from_an_unpacked_wheel_has_each_module_and_the_registry_of_jobs_once(wheel, tmp_path):
    site, empty, report = tmp_path / "site", tmp_path / "empty", tmp_path / "report.json"
    empty.mkdir()
    wheel.extractall(site)
    (site / "app").mkdir()  # another package of this name, which must not be imported instead
    (site / "app" / "__init__.py").write_text("raise ImportError('this is not the dashboard')")
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVE, str(port), str(report)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=empty, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, tmp_path / "log")
        drawn = {page: headings(visit(port, page)) for page in ("", "run", "experts", "timing")}
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert [drawn[page][0] for page in drawn] == ["Overview", "Run", "Experts", "Timing"]
    found = json.loads(report.read_text())
    app = site / BUNDLED / "app"
    own = {name: file for name, file in found["files"].items() if file and Path(file).is_relative_to(app)}
    assert all(name == "app" or name.startswith("app.") for name in own if name != "__main__"), own
    assert len(set(own.values())) == len(own)
    assert {"app.jobs.queue", "app.jobs.registry", "app.state.sources"} <= set(own)
    assert (found["registries"], found["workers"]) == (1, 1)
    assert found["path"][0] == str(app.parent)
    assert str(app) not in found["path"]


def test_every_dependency_is_pinned_to_what_was_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {entry.split(">=")[0].lower() for entry in wanted} <= pinned
