"""`capture`: a thin shell over `Probe.trace`, which can be stopped and continued."""

import json
import re
import signal
import sys

import numpy as np
import pytest

from mixtral_probe import Probe, Trace
from mixtral_probe.cli import progress
from mixtral_probe.cli.progress import describe, show_progress
from mixtral_probe.run import Progress
from tests.support.cli import interrupting, refused, run

TEXT = "def add(a, b):\n    return a + b"


def same(trace, other):
    assert np.array_equal(trace.expert_ids, other.expert_ids)
    assert np.array_equal(trace.router_logits, other.router_logits)
    assert list(trace.tokens["piece"]) == list(other.tokens["piece"])


def test_a_text_gives_the_trace_that_python_gives(model, tmp_path):
    result = run("capture", "--model", model, "--text", TEXT, "--attention", "1:0-1", "--out", tmp_path / "a.trace")
    assert result.exit_code == 0
    trace, expected = Trace.load(tmp_path / "a.trace"), Probe.from_pretrained(model).trace(TEXT, attention="1:0-1")
    same(trace, expected)
    assert np.array_equal(trace.attention(0, 1), expected.attention(0, 1))
    first, last = result.stdout.splitlines()
    assert first.startswith(f"1 document, {len(trace)} tokens: about ")
    assert last == f"wrote {tmp_path / 'a.trace'}: {len(trace)} tokens through 3 layers"
    assert "1 of 1 document, " in result.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.trace"]


def test_json_has_the_facts_and_nothing_else_on_stdout(model, tmp_path):
    result = run("capture", "--model", model, "--text", TEXT, "--out", tmp_path / "a.trace", "--json")
    facts = json.loads(result.stdout)
    trace = Trace.load(tmp_path / "a.trace")
    assert (facts["documents"], facts["tokens"], facts["layers"]) == (1, len(trace), 3)
    assert (facts["experts"], facts["experts_per_token"], facts["path"]) == (8, 2, str(tmp_path / "a.trace"))
    assert facts["estimate"]["tokens"] == len(trace)


def test_only_summaries_of_attention(model, tmp_path):
    assert (
        run(
            "capture",
            "--model",
            model,
            "--text",
            TEXT,
            "--attention",
            "all",
            "--no-attention-maps",
            "--out",
            tmp_path / "a",
        ).exit_code
        == 0
    )
    trace = Trace.load(tmp_path / "a")
    assert trace.attention_layers == (0, 1, 2)
    assert (trace.attention_sums["tokens"] > 0).all()


def test_a_corpus_folder_has_domains(model, tmp_path):
    for domain in ("code", "prose"):
        (tmp_path / "texts" / domain).mkdir(parents=True)
        (tmp_path / "texts" / domain / "one.txt").write_text(f"some {domain}")
    assert run("capture", "--model", model, "--corpus", tmp_path / "texts", "--out", tmp_path / "a").exit_code == 0
    assert list(Trace.load(tmp_path / "a").documents["domain"]) == ["code", "prose"]


def test_any_text_file_is_one_document(model, tmp_path):
    (tmp_path / "add.py").write_text(TEXT)
    assert (
        run(
            "capture", "--model", model, "--file", tmp_path / "add.py", "--window", 5, "--out", tmp_path / "a"
        ).exit_code
        == 0
    )
    trace = Trace.load(tmp_path / "a")
    assert list(trace.documents["id"]) == ["add.py"]
    assert trace.tokens["position"].max() == 4


def test_a_text_that_is_a_path_is_still_a_text(model, tmp_path):
    assert run("capture", "--model", model, "--text", "bundled", "--out", tmp_path / "a").exit_code == 0
    assert Trace.load(tmp_path / "a").num_documents == 1


def test_exactly_one_source(tmp_path):
    out = ["--out", tmp_path / "a"]
    assert "exactly one of --text, --file, --corpus" in refused("capture", *out)
    assert "got --text and --corpus" in refused("capture", "--text", "x", "--corpus", "bundled", *out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", "x", "--model", "nowhere"], "got nowhere, a path that does not exist"),
        (["--text", ""], "got an empty one, 'text'"),
        (["--text", "x", "--attention", "7"], "layer must be in 0–2, got 7"),
        (["--text", "x", "--attention", "one"], "got 'one'"),
        (["--text", "x", "--window", "0"], "at least 1 token, got window=0"),
        (["--text", "x", "--dtype", "int8"], "dtype must be one of"),
        (["--text", "x", "--device", "abacus"], "device 'abacus'"),
        (["--file", "nowhere.txt"], "--file must name a file, got nowhere.txt; name another"),
        (["--corpus", "nowhere"], "--corpus must name a folder or file, got nowhere; name another"),
    ],
)
def test_mistakes_are_said_in_one_sentence_and_leave_nothing(model, tmp_path, arguments, sentence):
    chosen = arguments if "--model" in arguments else ["--model", model, *arguments]
    assert re.search(sentence, refused("capture", *chosen, "--out", tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_text(model, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"ab\xff\xfe")
    said = refused("capture", "--model", model, "--file", tmp_path / "picture.png", "--out", tmp_path / "a")
    assert "must be UTF-8" in said
    assert "byte 2" in said


def test_a_folder_with_other_things_is_not_overwritten(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("dear")
    # Said before the model is looked for: a large one takes minutes to load.
    assert "other contents" in refused("capture", "--model", "nowhere", "--text", "x", "--out", tmp_path / "letters")
    assert [entry.name for entry in (tmp_path / "letters").iterdir()] == ["mine.txt"]


def test_ctrl_c_stops_between_batches_and_the_same_command_continues(model, tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    for name in "abc":
        (tmp_path / "texts" / f"{name}.txt").write_text(f"{name} is a letter, not a number. " * 500)
    command = [
        "capture",
        "--model",
        model,
        "--corpus",
        tmp_path / "texts",
        "--window",
        64,
        "--out",
        tmp_path / "a.trace",
    ]
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(progress, "show_progress", interrupting)
        said = refused(*command, code=130)
    kept = f"{tmp_path}/a.trace.partial"
    assert said == f"mixtral-probe: stopped; what is done is kept in {kept}, and the same command continues there"
    assert signal.getsignal(signal.SIGINT) is handler
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.trace.partial", "texts"]
    assert "an unfinished run" in refused("info", tmp_path / "a.trace.partial")
    result = run(*command)
    assert result.exit_code == 0
    assert f"continuing the unfinished run in {tmp_path / 'a.trace.partial'}" in result.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.trace", "texts"]
    whole = Probe.from_pretrained(model).trace(tmp_path / "texts", window=64)
    np.testing.assert_allclose(Trace.load(tmp_path / "a.trace").router_logits, whole.router_logits, atol=1e-5)


def test_a_different_run_is_not_continued(model, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a is a letter, not a number. " * 2000)
    command = ["capture", "--model", model, "--window", 64, "--out", tmp_path / "t"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "show_progress", interrupting)
        refused(*command, "--file", tmp_path / "a.txt", code=130)
    assert "another model, text or settings" in refused(*command, "--text", "other")


def test_progress_in_words():
    progress = Progress(documents=3, total_documents=1200, tokens=900, total_tokens=3300, seconds=4.0, started_at=100)
    assert describe(progress) == "3 of 1,200 documents, 200 tokens/s, 12 s left"


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress() as update:
        update(Progress(documents=1, total_documents=2, tokens=50, total_tokens=100, seconds=1.0))
    assert "50 %  1 of 2 documents, 50 tokens/s, 1 s left" in capsys.readouterr().err
