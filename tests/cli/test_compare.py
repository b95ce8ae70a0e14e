"""`mixtral-probe compare`: what it says of two traces with a known difference, and what it refuses."""

import json

import numpy as np
import pytest

from mixtral_probe import Trace, tables
from tests.support.cli import refused, run

TOKENS, DOCUMENTS = 400, 8


def saved(path, ids, labels=("code", "prose"), **more):
    documents = [{"id": f"d{i}", **({"domain": labels[i % 2]} if labels else {})} for i in range(DOCUMENTS)]
    trace = Trace.from_arrays(
        expert_ids=ids, document=np.arange(TOKENS) * DOCUMENTS // TOKENS, num_experts=6, documents=documents, **more
    )
    return trace.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """In layer 1 every fourth token of B goes to experts 4 and 5 in place of its own two of 0 to 3."""
    path = tmp_path_factory.mktemp("pair")
    a = np.random.default_rng(0).random((2, TOKENS, 4)).argsort(-1)[..., :2]
    b = a.copy()
    b[1, ::4] = [4, 5]
    saved(path / "a.trace", a, meta={"model": {"name": "toy"}, "dtype": "float32"})
    saved(path / "b.trace", b, meta={"model": {"name": "toy"}, "dtype": "bfloat16"})
    saved(path / "plain.trace", a, labels=None)
    return path


def facts(folder):
    result = run("compare", folder / "a.trace", folder / "b.trace", "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_the_facts_as_json(folder):
    said = facts(folder)
    assert (said["documents"], said["tokens"], said["by"]) == (DOCUMENTS, TOKENS, "domain")
    assert said["second"]["dtype"] == "bfloat16"
    first, second = said["layers"]
    assert first["set_overlap"]["value"] == 1
    assert second["set_overlap"] | {"low": 0, "high": 0} == {
        "value": 0.75,
        "corrected": 0.75,
        "low": 0,
        "high": 0,
        "null": 2 / 6,
        "n": 400,
    }
    groups = {entry["group"]: entry for entry in said["groups"]}
    assert set(groups) == {"code", "prose", "all"}
    assert groups["all"]["any_layer_differs"]["value"] == 0.25
    assert groups["code"]["any_layer_differs"]["n"] == TOKENS // 2
    gained = [row for row in said["experts"] if row["group"] == "all" and row["value"] > 0]
    assert [(row["layer"], row["expert"], row["value"]) for row in gained] == [(1, 4, 0.125), (1, 5, 0.125)]
    assert said["experts"][0]["value"] == max(row["value"] for row in said["experts"])


def test_the_same_in_words(folder):
    result = run("compare", folder / "a.trace", folder / "b.trace")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("a.trace (toy, float32)")
    assert lines[1].endswith("b.trace (toy, bfloat16)")
    assert "8 documents, 400 tokens, special tokens out" in lines
    assert any(line.startswith("tokens that differ in any layer: 25.0% (") for line in lines)
    assert any(line.split()[:2] == ["code", "26.0%"] or line.split()[:2] == ["code", "25.0%"] for line in lines)
    assert any(line.split()[:2] == ["1", "75.0%"] for line in lines)
    assert any(line.startswith("  layer 1 expert 4: +12.50 (") for line in lines)


def test_a_trace_against_itself(folder):
    result = run("compare", folder / "plain.trace", folder / "plain.trace")
    assert "tokens that differ in any layer: 0.0%" in result.stdout
    assert "no expert gained or lost more than documents differ by chance" in result.stdout


def test_four_documents_do_not_tell_a_change_from_their_differences(folder, tmp_path):
    for name in ("a", "b"):
        Trace.load(folder / f"{name}.trace").select(range(4)).save(tmp_path / f"{name}.trace")
    result = run("compare", tmp_path / "a.trace", tmp_path / "b.trace")
    assert "changes of single experts have no interval: fewer than 5 documents" in result.stdout
    assert "documents differ by chance" not in result.stdout


def test_the_numbers_are_those_of_the_table(folder):
    table = tables.agreement(Trace.load(folder / "a.trace"), Trace.load(folder / "b.trace"), by="domain")
    own = table[(table["metric"] == "share_change") & (table["group"] == "all")]
    said = [row for row in facts(folder)["experts"] if row["group"] == "all"]
    assert {(row["layer"], row["expert"]): row["high"] for row in said} == dict(
        zip(zip(own["layer"], own["expert"], strict=True), own["high"], strict=True)
    )


def test_what_cannot_be_compared(folder, tmp_path):
    saved(tmp_path / "other.trace", np.zeros((3, TOKENS, 1), int))
    assert "models have the same layers" in refused("compare", folder / "a.trace", tmp_path / "other.trace")
    Trace.load(folder / "b.trace").select([0, 1]).save(tmp_path / "part.trace")
    sentence = refused("compare", folder / "a.trace", tmp_path / "part.trace")
    assert "when they are of the same texts, got document 'd2' in the first alone" in sentence
    assert "nothing.trace" in refused("compare", folder / "a.trace", tmp_path / "nothing.trace")
