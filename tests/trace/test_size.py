"""A large trace opens at once and leaves its arrays on disk."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd

from mixtral_probe.trace import TraceBuilder, TraceMeta

OPEN = """
import sys, time
from mixtral_probe.trace import Trace
start = time.process_time()
trace = Trace.load(sys.argv[1])
seconds = time.process_time() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
heavy = [name for name in ("torch", "plotly", "streamlit") if name in sys.modules]
print(len(trace), seconds, int(peak.split()[1]) / 1024, *heavy)
"""


def test_a_million_tokens_open_within_a_second_and_300_mb(tmp_path):
    count, tokens_each = 2_000, 500
    rows = count * tokens_each
    piece = pd.Categorical.from_codes(np.arange(rows) % 4096, categories=[f"piece {i}" for i in range(4096)])
    tokens = {"document": np.arange(rows) // tokens_each, "token_id": piece.codes, "piece": piece}
    documents = pd.DataFrame({"id": [f"document {i}" for i in range(count)]})
    meta = TraceMeta(num_layers=8, num_experts=8, num_experts_per_tok=2)
    builder = TraceBuilder(documents, pd.DataFrame(tokens), meta, tmp_path / "big.trace")
    builder.expert_ids[...] = [3, 5]
    builder.nll[...] = np.random.default_rng(0).random(rows)
    builder.mark_done(range(count))
    builder.finish()
    run = subprocess.run(
        [sys.executable, "-c", OPEN, tmp_path / "big.trace"], capture_output=True, text=True, check=True
    )
    shutil.rmtree(tmp_path / "big.trace")
    length, seconds, megabytes, *heavy = run.stdout.split()
    assert int(length) == rows
    assert float(seconds) < 1
    assert float(megabytes) < 300
    assert heavy == []
