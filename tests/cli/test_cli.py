"""What every verb shares: help, exit codes, mistakes in one sentence, quick answers."""

import subprocess
import sys
import warnings

import pytest
import typer

from mixtral_probe import InputError
from mixtral_probe.cli import words
from mixtral_probe.cli.shell import plain_errors
from tests.support.cli import refused, run

VERBS = ("capture", "report", "info", "dashboard", "parity", "time", "whatif", "saliency", "ablate")
HEAVY = ("torch", "pandas", "numpy", "streamlit", "plotly", "pydantic", "transformers")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"mixtral-probe {verb}" in result.stdout.split("Examples:")[1]


def test_the_help_names_every_verb():
    result = run("--help")
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in VERBS)


def test_help_imports_nothing_heavy():
    ask = f"""
import sys
from mixtral_probe.cli import main
sys.argv = ["mixtral-probe", "--help"]
try:
    main()
except SystemExit as end:
    print("EXIT", end.code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().endswith("EXIT 0 []")


def test_the_package_can_be_run_as_a_module():
    answer = subprocess.run([sys.executable, "-m", "mixtral_probe", "info", "nowhere"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert (
        answer.stderr
        == "mixtral-probe: info needs a model folder or a trace, got nowhere, where there is nothing; name another\n"
    )
    assert answer.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["info"], ["report"], ["capture", "--nonsense"], ["dashboard", "--port", "0"]]
)
def test_wrong_usage_ends_with_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("layers must be below 8, but 9 came"), 2, "layers must be below 8, but 9 came"),
        (PermissionError(13, "Permission denied", "/here"), 1, "/here: Permission denied"),
        (OSError("no luck"), 1, "no luck"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_become_one_sentence_and_a_code(error, code, sentence, capsys):
    def verb():
        raise error

    with pytest.raises(typer.Exit) as end:
        plain_errors(verb)()
    assert end.value.exit_code == code
    assert capsys.readouterr().err == f"mixtral-probe: {sentence}\n"


def test_errors_of_the_program_itself_are_not_hidden():
    def verb():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        plain_errors(verb)()


def test_a_warning_is_one_line(capsys):
    def verb():
        warnings.simplefilter("always")
        warnings.warn("a document was\n  cut", stacklevel=1)

    before = warnings.showwarning
    plain_errors(verb)()
    assert capsys.readouterr().err == "warning: a document was cut\n"
    assert warnings.showwarning is before


def test_refusals_come_without_traceback(tmp_path):
    assert "neither" in refused("info", tmp_path)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_536_000, "1.54 MB"),
        (123_456_789, "123 MB"),
        (93.4e9, "93.4 GB"),
        (5e13, "50 TB"),
    ],
)
def test_sizes(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under 1 s"),
        (1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3600, "1 h 0 min"),
        (7290, "2 h 1 min"),
    ],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_counts():
    assert [words.counted(n, "token") for n in (0, 1, 1200)] == ["0 tokens", "1 token", "1,200 tokens"]
