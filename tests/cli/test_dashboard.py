"""`dashboard`: Streamlit, started on the app that comes with the project."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from mixtral_probe import Trace
from mixtral_probe.cli.verbs import dashboard as verb
from tests.support.cli import refused, run


@pytest.fixture
def started(monkeypatch):
    """What would be run, instead of running it."""
    calls = []
    monkeypatch.setattr(verb, "_run_streamlit", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def small_trace(path):
    import numpy as np

    Trace.from_arrays(expert_ids=np.zeros((1, 2, 1), int), num_experts=2).save(path)
    return path


def test_it_serves_this_machine_alone_and_sends_nothing_home(started):
    assert run("dashboard").exit_code == 0
    [(entry, folders, settings)] = started
    assert entry.parts[-2:] == ("app", "streamlit_app.py")
    assert entry.is_file()
    assert folders == []
    assert settings["server.address"] == "127.0.0.1"
    assert settings["browser.gatherUsageStats"] == "false"
    assert settings["server.showEmailPrompt"] == "false"
    assert settings["client.toolbarMode"] == "minimal"
    assert settings["server.headless"] == "true"  # nobody sits before a test
    assert 8501 <= int(settings["server.port"]) < 8601


def test_traces_are_handed_on_with_their_whole_path(started, tmp_path, monkeypatch):
    small_trace(tmp_path / "a.trace")
    monkeypatch.chdir(tmp_path)
    assert run("dashboard", "a.trace", "--port", free_port(), "--host", "localhost").exit_code == 0
    [(_, folders, settings)] = started
    assert folders == [str(tmp_path / "a.trace")]
    assert settings["server.address"] == "localhost"


def test_folders_that_may_be_opened_are_handed_on_with_their_whole_path(started, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run("dashboard", "--allow", "models", "--allow", tmp_path).exit_code == 0
    [(_, arguments, _)] = started
    assert arguments == [f"--allow={tmp_path / 'models'}", f"--allow={tmp_path}"]
    assert "--allow must name a folder" in refused("dashboard", "--allow", "nowhere")


def test_a_taken_port_is_said(started, taken_port):
    assert f"port {taken_port} of 127.0.0.1" in refused("dashboard", "--port", taken_port)
    assert not started


def test_mistakes(started, tmp_path):
    assert "without trace.json" in refused("dashboard", tmp_path)
    assert "must be an address of this machine" in refused("dashboard", "--host", "no.such.host.invalid")
    assert not started


def test_it_starts_in_an_empty_folder_and_stops_when_asked(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "mixtral_probe", "dashboard", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            assert answer(port, process) == b"ok"
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert not list(tmp_path.iterdir())


def answer(port, process):
    """The health page, as soon as there is one."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=10) as page:
                return page.read()
        except OSError:
            time.sleep(0.2)
    return None
