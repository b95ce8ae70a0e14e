"""`capture --generate`: the trace that Python gives, and mistakes in one sentence."""

import json

import pytest

from mixtral_probe import Probe, Trace
from mixtral_probe.cli import progress
from tests.support.cli import interrupting, refused, run


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--temperature", 0.7, "--seed", 3], {"do_sample": True, "temperature": 0.7, "seed": 3}),
        (["--top-p", 0.5], {"do_sample": True, "top_p": 0.5}),
    ],
)
def test_the_trace_is_that_of_python(model, tmp_path, arguments, options):
    result = run("capture", "--model", model, "--text", "once", "--generate", 6, *arguments, "--out", tmp_path / "a")
    trace = Trace.load(tmp_path / "a")
    expected = Probe.from_pretrained(model).trace([{"id": "text", "text": "once"}], generate=6, **options)
    assert trace.tokens["token_id"].tolist() == expected.tokens["token_id"].tolist()
    assert trace.documents["generated"].tolist() == expected.documents["generated"].tolist()
    assert (trace.tokens["phase"] == "decode").sum() == 5
    first, last = result.stdout.splitlines()
    assert first.startswith(f"1 document, at most {len(trace)} tokens: about ")
    assert last == f"wrote {tmp_path / 'a'}: {len(trace)} tokens through 3 layers"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_json(model, tmp_path):
    facts = json.loads(
        run("capture", "--model", model, "--text", "once", "--generate", 4, "--out", tmp_path / "a", "--json").stdout
    )
    assert facts["tokens"] == facts["estimate"]["tokens"] == len(Trace.load(tmp_path / "a"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--temperature", 1], "--temperature says how tokens are drawn, so it needs --generate N"),
        (["--top-p", 1], "--top-p says how tokens are drawn"),
        (["--generate", 0], "max_new_tokens must be a whole number of at least 1, got 0"),
        (["--generate", 3, "--temperature", 0], "temperature must be above 0"),
        (["--generate", 3, "--window", 8], "a text to be continued is not cut, got window=8 and generate"),
    ],
)
def test_mistakes(model, tmp_path, arguments, sentence):
    assert sentence in refused("capture", "--model", model, "--text", "x", *arguments, "--out", tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:prompt and new tokens")
def test_ctrl_c_keeps_finished_batches_and_the_same_command_continues(model, tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    for name in "ab":
        (tmp_path / "texts" / f"{name}.txt").write_text(f"{name} is a letter. " * 700)
    command = ["capture", "--model", model, "--corpus", tmp_path / "texts", "--generate", 2, "--out", tmp_path / "t"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "show_progress", interrupting)
        said = refused(*command, code=130)
    assert said.endswith(f"kept in {tmp_path}/t.parts, and the same command continues there")
    result = run(*command)
    assert f"continuing the unfinished run in {tmp_path / 't.parts'}" in result.stderr
    assert Trace.load(tmp_path / "t").num_documents == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["t", "texts"]
