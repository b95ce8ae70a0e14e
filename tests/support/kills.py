"""Runs that are killed by SIGKILL at random moments and begun again, in a process of their own.

A process that has the model forks one child for each run, so that a run costs no second import of torch.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

import numpy as np
import torch

from mixtral_probe import Probe, RoutingStats
from mixtral_probe.trace import Result, Trace

model, folder, method, kills, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(1)
probe, draw = Probe.from_pretrained(model), random.Random(seed)
texts = [{"id": str(i), "text": f"text {i}: " + "one two three " * (i + 1), "domain": "ab"[i % 2]} for i in range(8)]
HOW = {
    "trace": {"positions_in_a_batch": 1, "attention": "all"},
    "generation": {"positions_in_a_batch": 1, "attention": "all", "generate": 4},
    "ablation": {"positions_in_a_batch": 64, "layers": [0, 2], "experts": [1], "placebos": 2},
}[method]
run = probe.ablation if method == "ablation" else probe.trace


def child(path):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(texts, path=path, **HOW)
            code = 0
        finally:
            os._exit(code)
    return pid


def numbers(path):
    if method == "ablation":
        return dict(Result.load(path).arrays)
    trace = Trace.load(path)
    sums = RoutingStats.load(path / "stats.safetensors").sums.arrays()
    arrays = {name: getattr(trace, name) for name in ("expert_ids", "expert_weights", "router_logits")}
    maps = {f"map {d}": trace.attention(d, 1) for d in range(len(texts))}
    tokens = {name: trace.tokens[name].to_numpy(float, na_value=-1) for name in ("nll", "predicted_id", "token_id")}
    return arrays | maps | tokens | trace.attention_sums | {f"sum {name}": array for name, array in sums.items()}


def complete(path):
    done = path.with_name(path.name + ".partial") / "run" / "done.npy"
    try:
        return int(np.load(done).sum())
    except (OSError, ValueError, EOFError):
        return len(list(path.with_name(path.name + ".parts").glob("*.json")))


began = time.monotonic()
os.waitpid(child(folder / "whole"), 0)
duration, expected = time.monotonic() - began, numbers(folder / "whole")
counts = {"kills": 0, "finished": 0, "different": 0, "lost": 0, "refused": 0, "left": []}
before, path = 0, folder / "killed"
undisturbed = False
while not undisturbed:
    undisturbed, pid = counts["kills"] >= kills, child(path)
    if not undisturbed:
        time.sleep(draw.uniform(0, 1.1 * duration / draw.choice((1, 3))))
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status)
    counts["kills"] += killed
    counts["refused"] += not killed and os.waitstatus_to_exitcode(status) != 0
    if killed:
        now = complete(path)
        counts["lost"] += 0 < now < before
        before = now
        continue
    other = numbers(path)
    counts["finished"] += 1
    counts["different"] += set(other) != set(expected) or not all(
        np.array_equal(other[name], expected[name], equal_nan=expected[name].dtype.kind == "f") for name in expected
    )
    counts["left"] += [entry.name for entry in folder.iterdir() if entry.name not in ("whole", "killed")]
    before = 0
    if draw.random() < 0.5:  # else the next run replaces it
        shutil.rmtree(path)
print(json.dumps(counts))
"""


def killed_runs(model: Path, folder: Path, method: str, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill runs of a method until there were so many kills, let the last one finish, and count how they ended.

    Returns:
        "kills"; "finished" runs, "different" ones of them from an undisturbed run; times that complete documents were
        "lost"; runs that were "refused"; and the names of files "left" beside finished ones.
    """
    command = [sys.executable, "-c", SCRIPT, str(model), str(folder), method, str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
