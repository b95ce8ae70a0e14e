"""How long people wait for import, ``--help`` and a trace of 1,000,000 tokens: ``python benchmarks/opening.py``."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

import mixtral_probe as mp

ROUNDS = 7
OPEN = r"""
import re, sys, time
start = time.perf_counter()
import mixtral_probe as mp
trace = mp.Trace.load(sys.argv[1])
seconds = time.perf_counter() - start
status = open("/proc/self/status").read()  # ru_maxrss would begin with what the parent process held
print(seconds, int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024)
"""


def main() -> None:
    """Measure and print."""
    print(f"import mixtral_probe   {cpu([sys.executable, '-c', 'import mixtral_probe']):.2f} s CPU")
    print(f"mixtral-probe --help   {cpu([sys.executable, '-m', 'mixtral_probe', '--help']):.2f} s CPU")
    with tempfile.TemporaryDirectory() as folder:
        path = big_trace(Path(folder) / "big.trace")
        runs = [subprocess.check_output([sys.executable, "-c", OPEN, str(path)]).split() for _ in range(ROUNDS)]
    seconds, peak = (median(float(run[i]) for run in runs) for i in (0, 1))
    print(f"open 1,000,000 tokens × 8 layers   {seconds:.2f} s with imports, peak {peak:.0f} MB")


def cpu(command: list[str]) -> float:
    """Median user and system seconds of a command."""
    spent = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(spent)


def big_trace(path: Path, tokens: int = 1_000_000) -> Path:
    """A random trace of documents of a thousand tokens in twelve domains."""
    generator = np.random.default_rng(0)
    layers, experts = 8, 8
    logits = generator.standard_normal((layers, tokens, experts), dtype=np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :2]
    token_ids = generator.integers(0, 8192, tokens)
    pieces = [f" piece{i}" for i in range(8192)]
    trace = mp.Trace.from_arrays(
        expert_ids=ids, router_logits=logits, token_ids=token_ids, document=np.arange(tokens) // 1000,
        piece=[pieces[i] for i in token_ids], num_experts=experts,
        documents=[{"id": f"text-{i}", "domain": f"domain {i % 12}"} for i in range(-(-tokens // 1000))],
    )  # fmt: skip
    trace.save(path)
    return path


if __name__ == "__main__":
    main()
