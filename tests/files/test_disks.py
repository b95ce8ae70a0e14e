"""Whatever the Python API writes: where the disk or a limit refuses, one sentence says why and what to do."""

import subprocess
import sys

import pytest

from mixtral_probe import InputError, Probe, RoutingStats
from mixtral_probe.report import write_report
from mixtral_probe.tables import expert_load
from mixtral_probe.tables.write import write_csv, write_parquet
from tests.support.models import SIZES, toy_model
from tests.support.routing import random_trace


@pytest.fixture(scope="module")
def saves(tokenizer):
    """What writes, by name."""
    trace = random_trace(tokens=4000)
    stats = RoutingStats.from_trace(trace)
    probe = Probe(toy_model(std=0.2, vocab_size=8192, **SIZES), tokenizer, "toy")
    text = "once upon a time " * 8
    lens, table = probe.logit_lens(text, top=20), expert_load(stats)
    return {
        "trace": trace.save,
        "statistics": stats.save,
        "model": probe.model.save_pretrained,
        "config": probe.model.config.save_pretrained,
        "result": lens.save,
        "csv": lambda path: write_csv(table, path),
        "parquet": lambda path: write_parquet(table, path),
        "capture": lambda path: probe.trace(text, path=path, attention="all"),
        "generation": lambda path: probe.trace([text] * 2, path=path, generate=2),
        "ablation": lambda path: probe.ablation(text, path=path, layers=[0], placebos=0),
        "report": lambda path: write_report([trace], path),
    }


NAMES = (
    "trace", "statistics", "model", "config", "result", "csv", "parquet", "capture", "generation", "ablation", "report",
)  # fmt: skip


@pytest.mark.parametrize("target", ["/proc/self/x", "/dev/null/x"])
@pytest.mark.parametrize("name", NAMES)
def test_places_that_cannot_be_written(saves, name, target):
    with pytest.raises(InputError, match=r"must be writable, got|free disk space, got 0 GB|must be a folder") as caught:
        saves[name](target)
    assert str(caught.value).endswith("name another place")


@pytest.mark.parametrize("path", ["a\0b", "y/" * 2500, "z" * 300], ids=["NUL", "long", "long name"])
@pytest.mark.parametrize("name", NAMES)
def test_paths_that_cannot_be_opened(saves, name, path):
    with pytest.raises(InputError, match="a path must have"):
        saves[name](path)


LIMITED = """
import resource, sys, tempfile
sys.path[:0] = ["."]
from mixtral_probe import InputError, RoutingStats
from tests.support.models import toy_model
from tests.support.routing import random_trace
trace, model = random_trace(tokens=4000), toy_model()
stats, folder = RoutingStats.from_trace(trace), tempfile.mkdtemp()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for name, save in {"trace": trace.save, "statistics": stats.save, "model": model.save_pretrained}.items():
    try:
        save(f"{folder}/{name}")
    except InputError as error:
        print(name, error)
"""


def test_the_largest_file_allowed():
    out = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    lines = out.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["trace", "statistics", "model"], out.stderr
    assert all("must fit into the largest file allowed (ulimit -f)" in line for line in lines)
    assert all(line.endswith("raise the limit or name another place") for line in lines)
