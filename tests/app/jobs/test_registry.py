"""What a killed server leaves in the folder of temporary files is removed by the next one."""

import subprocess
import sys

from app.jobs.registry import remove_left
from mixtral_probe.output_lock import OutputLock

KILLED = """
import os, signal, sys
from pathlib import Path
from mixtral_probe.output_lock import OutputLock
folder = Path(sys.argv[1])
folder.mkdir()
(folder / "result").touch()
lock = OutputLock(folder)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_server_is_removed_and_others_are_kept(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "mixtral-probe-killed")])
    (tmp_path / "mixtral-probe-running").mkdir()
    (tmp_path / "mixtral-probe-upload-of-another").mkdir()
    with OutputLock(tmp_path / "mixtral-probe-running"):
        remove_left(tmp_path)
        names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == [
        ".mixtral-probe-running.lock", "mixtral-probe-running", "mixtral-probe-upload-of-another",
    ]  # fmt: skip
