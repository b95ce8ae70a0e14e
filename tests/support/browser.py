"""A running dashboard and a browser for tests, each started once."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from mixtral_probe.resources import data_path
from tests.support.app_traces import ENTRY

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 60_000
"""Milliseconds; the machine may be busy."""
MODEL = data_path("mixtral-mini") / "model.safetensors"
needs_model = pytest.mark.skipif(not MODEL.exists(), reason="the embedded model has no weights here")
needs_chromium = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    # Closing a browser leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def dashboard(folder: Path, *arguments: object) -> Iterator[str]:
    """The address of a dashboard, started as `streamlit run app/streamlit_app.py -- ARGUMENTS` in an empty folder."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ENTRY), "--server.port", str(port), "--"]
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE / 1000)


@contextmanager
def chromium() -> Iterator:
    """A browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            with urlopen(url):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the dashboard did not start: {log.read_text()}")


def settled(page) -> None:
    """Wait until the script is done and nothing on the page moves any more."""
    page.locator(".js-plotly-plot").first.wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for()
