"""`mixtral-probe time`."""

import json

import pandas as pd
import pytest

from mixtral_probe import Result, tables
from tests.support.cli import refused, run


def test_the_facts_are_those_of_the_result_and_its_table(model, tmp_path):
    files = {"--out": tmp_path / "a.timing", "--csv": tmp_path / "a.csv", "--chrome": tmp_path / "a.json"}
    more = [part for pair in files.items() for part in pair]
    answer = run("time", "--model", model, "--text", "one two three", "--repeats", 6, "--warmup", 0, "--json", *more)
    assert answer.exit_code == 0
    facts, result = json.loads(answer.stdout), Result.load(files["--out"])
    assert facts["runs"] == 6
    assert facts["clock"] == "host clock"
    assert facts["expert_rows"] == result["expert_rows"].tolist()
    parts = facts["parts"]
    assert sum(values["time_share"] for part, values in parts.items() if part != "whole") == pytest.approx(1)
    held = pd.read_csv(files["--csv"])
    assert len(held) == len(tables.timing(result))
    assert len(json.loads(files["--chrome"].read_text())["traceEvents"]) == len(result.axis("span")) + 2


def test_the_parts_are_listed_with_what_timing_cost(model):
    answer = run("time", "--model", model, "--text", "one two", "--repeats", 1, "--warmup", 0, "--no-memory")
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:11]] == [
        "attention", "router", "experts", "dispatch", "norms", "embedding", "head", "other", "whole",
    ]  # fmt: skip
    assert lines[10].endswith("100.0%")
    assert "timing itself cost" in lines[11]
    assert len(lines) == 12


def test_without_a_text_it_says_which_options_there_are(model):
    assert "exactly one of --text, --file, --corpus" in refused("time", "--model", model)
