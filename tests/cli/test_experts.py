"""`mixtral-probe saliency` and `ablate`: the numbers of the tables, progress, and mistakes in one sentence."""

import json

import pandas as pd
import pytest

from mixtral_probe import Result, tables
from tests.support.cli import refused, run

TEXT = "a truth universally acknowledged, that a single man"


def test_ablate_prints_what_its_table_says(model, tmp_path):
    out, csv = tmp_path / "a.result", tmp_path / "a.csv"
    how = ("--model", model, "--text", TEXT, "--layers", "0,2", "--experts", "1-2")
    facts = json.loads(run("ablate", *how, "--out", out, "--csv", csv, "--json").stdout)
    table = tables.ablation(Result.load(out))
    rows = {(row["layer"], row["expert"], row["metric"]): row["value"] for row in facts["rows"]}
    assert {key[:2] for key in rows} == {(0, 1), (0, 2), (2, 1), (2, 2)}
    for row in table.itertuples():
        value = rows[row.layer, row.expert, row.metric]
        assert pd.isna(row.value) if value is None else value == pytest.approx(row.value)
    assert len(pd.read_csv(csv)) == len(table)
    shown = run("ablate", *how, "--placebos", 0, "--semantics", "zero")
    assert shown.exit_code == 0
    assert "without an expert (zero)" in shown.stdout
    assert len(shown.stdout.splitlines()) == 2 + 4
    assert "1 document, 13 tokens: about " in shown.stderr
    drawn = run("ablate", *how)
    assert "1 document, 13 tokens, 7 placebo draws: about " in drawn.stderr
    assert "placebo: 7 draws, whose range holds one more such draw in 75 % of cases; FDR over the 4" in drawn.stdout
    most = table[table["metric"] == "loss_increase"].sort_values("value", ascending=False).iloc[0]
    line = drawn.stdout.splitlines()[3].split()
    assert line[:4] == [str(most["layer"]), str(most["expert"]), f"{most['value']:.4f}", "–"]
    assert line[4:8] == [f"{most[name]:.4f}" for name in ("null", "placebo_low")] + ["–", f"{most['placebo_high']:.4f}"]
    assert line[-1] == "1"


def test_saliency_prints_what_its_table_says(model, tmp_path):
    out = tmp_path / "s.result"
    facts = json.loads(run("saliency", "--model", model, "--text", TEXT, "--out", out, "--json").stdout)
    table = tables.saliency(Result.load(out))
    reap = table[(table["metric"] == "reap") & (table["group"] == "all")]
    assert [row["reap"] for row in facts["experts"]] == pytest.approx(
        [None if pd.isna(value) else value for value in reap["value"]]
    )
    assert facts["super_experts"] == []
    shown = run("saliency", "--model", model, "--text", TEXT).stdout.splitlines()
    assert len(shown) == 1 + 3 * 8 + 1
    assert shown[-1] == "0 super experts among 24 experts"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ablate", "--text", TEXT, "--layers", "x"), "--layers must be numbers such as 0,3 or 2-5, got 'x'"),
        (("ablate", "--text", TEXT, "--layers", "7"), "layer must be in 0–2 (this model has 3), got 7"),
        (("ablate",), "exactly one of --text, --file, --corpus says what to run, got none; give one"),
        (("saliency",), "exactly one of --text, --file, --corpus says what to run, got none; give one"),
    ],
)
def test_mistakes_are_one_sentence(model, arguments, sentence):
    assert sentence in refused(*arguments, "--model", model)
