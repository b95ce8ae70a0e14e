"""The benchmark of accelerators runs on a CPU with tiny sizes."""

import subprocess
import sys

from tests.support.benchmarks import FOLDER


def test_accelerator_dry_run():
    command = [sys.executable, str(FOLDER / "accelerator.py"), "--dry-run"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent, timeout=240, check=True).stdout
    lines = shown.splitlines()
    assert "experts: grouped_mm" in lines[0]
    assert [line.split(" (")[0] for line in lines[1:]] == [
        "large: prefill 1 × 16", "large: prefill 2 × 32", "large: decode 1 rows", "large: decode 2 rows",
        "large: all attention maps, 32 positions", "small: prefill 1 × 16", "small: prefill 2 × 32",
        "small: Probe.trace against its forward passes", "training step 2 × 32",
    ]  # fmt: skip
    assert "waits 0, recorded" in lines[1]
