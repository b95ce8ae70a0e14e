"""One run at a time writes an output: a second process gets one sentence, and killed runs lose nothing."""

import subprocess
import sys

import numpy as np
import pytest

from mixtral_probe import InputError, Probe, RoutingStats, Trace, report
from mixtral_probe.output_lock import OutputLock
from mixtral_probe.run import RunStoppedError
from tests.support.cli import refused, toy_folder
from tests.support.kills import killed_runs

TEXTS = [{"id": str(i), "text": "a few words " * (i + 1), "domain": "ab"[i % 2]} for i in range(6)]
HOLDER = """
import sys
from pathlib import Path
from mixtral_probe.output_lock import OutputLock
lock = OutputLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy_folder(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def probe(model):
    return Probe.from_pretrained(model)


@pytest.fixture
def out(tmp_path):
    """A path that another process is writing."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield tmp_path / "out"
        process.kill()


WRITERS = {
    "a capture": lambda probe, trace, out: probe.trace(TEXTS, path=out),
    "a generation": lambda probe, trace, out: probe.trace(TEXTS, path=out, generate=2),
    "an ablation": lambda probe, trace, out: probe.ablation(TEXTS[:1], layers=[0], experts=[0], path=out),
    "a saliency": lambda probe, trace, out: probe.saliency(TEXTS[:1]).save(out),
    "a saved trace": lambda probe, trace, out: trace.save(out),
    "a report": lambda probe, trace, out: report.write_report([trace], out, tables=["balance"]),
    "statistics": lambda probe, trace, out: RoutingStats.from_trace(trace).save(out),
    "a model": lambda probe, trace, out: probe.model.save_pretrained(out),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_what_another_process_writes_is_refused(probe, out, writer):
    trace = probe.trace(TEXTS[:2])
    before = {entry.name for entry in out.parent.iterdir()} | {out.name}
    with pytest.raises(InputError, match=r"out is written by one run at a time, got one that is running \(process \d+"):
        writer(probe, trace, out)
    assert {entry.name for entry in out.parent.iterdir()} <= before


@pytest.mark.parametrize(
    "verb",
    [["capture"], ["capture", "--generate", "2"], ["ablate", "--layers", "0"], ["saliency"], ["whatif"], ["time"]],
)
def test_a_verb_is_refused_before_its_model_is_loaded(out, verb):

    if verb == ["whatif"]:
        verb = ["whatif", "--edit", "top_k experts=1"]
    assert "out is written by one run at a time" in refused(*verb, "--model", "none", "--text", "x", "--out", out)


def test_of_captures_at_once_one_writes_and_the_others_get_one_sentence(model, tmp_path):
    (tmp_path / "texts.txt").write_text("a few words " * 1500)
    command = [sys.executable, "-m", "mixtral_probe", "capture", "--model", str(model), "--window", "16"]
    command += ["--file", str(tmp_path / "texts.txt"), "--attention", "all", "--out", str(tmp_path / "out")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes
    assert set(codes) <= {0, 2}
    for code, error in zip(codes, errors, strict=True):
        if code:
            *_, sentence = error.strip().splitlines()
            assert "out is written by one run at a time" in sentence
    trace = Trace.load(tmp_path / "out")
    assert trace.attention_sums["tokens"].sum() == len(trace) * trace.num_layers
    assert not np.isnan(trace.router_logits).any()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "texts.txt"]


def test_a_stopped_run_is_continued_by_another_process(probe, model, tmp_path):
    """Also while the first process lives on with the error of its stop, as a notebook does."""
    with pytest.raises(RunStoppedError) as kept:
        probe.trace(TEXTS, path=tmp_path / "out", should_stop=lambda: True)
    code = "import sys; from pathlib import Path; from mixtral_probe.output_lock import OutputLock; "
    code += "OutputLock(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=True)
    assert kept.traceback
    with OutputLock(tmp_path / "out") as lock:
        assert lock.first


@pytest.mark.parametrize("left", ["empty", "a temporary"])
def test_a_folder_of_parts_that_was_not_begun_is_no_other_run(probe, tmp_path, left):
    parts = tmp_path / "out.parts"
    parts.mkdir()
    if left == "a temporary":
        (parts / ".plan.json.1234-abcd.partial").touch()
        (parts / ".plan.json.lock").touch()
    assert len(probe.trace(TEXTS[:1], path=tmp_path / "out", generate=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_of_a_capture_that_was_not_begun_is_no_other_run(probe, tmp_path):
    (tmp_path / "out.partial").mkdir()
    assert len(probe.trace(TEXTS[:1], path=tmp_path / "out"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_somebody_else_is_left_alone(probe, tmp_path):
    (tmp_path / "out.parts").mkdir()
    (tmp_path / "out.parts" / "mine").touch()
    with pytest.raises(InputError, match=r"out\.parts is in the way and is no unfinished run"):
        probe.trace(TEXTS[:1], path=tmp_path / "out", generate=2)
    assert (tmp_path / "out.parts" / "mine").exists()


def check_kills(model, tmp_path, method, kills):
    counts = killed_runs(model, tmp_path, method, kills)
    assert counts["finished"] > 0
    nothing = {"different": 0, "lost": 0, "refused": 0, "left": []}
    assert {name: counts[name] for name in nothing} == nothing


def test_a_few_killed_captures_lose_nothing(model, tmp_path):
    check_kills(model, tmp_path, "trace", 4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["trace", "generation", "ablation"])
def test_killed_runs_lose_nothing(model, tmp_path, method):
    check_kills(model, tmp_path, method, 50)
