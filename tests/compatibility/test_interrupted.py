"""Runs that an earlier version left unfinished are continued where they stopped."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from mixtral_probe import Probe, tables
from mixtral_probe.run import provenance


@pytest.fixture(scope="module")
def probe(data):
    return Probe.from_pretrained(data / "model")


@pytest.fixture
def continued(data, expected, probe, tmp_path, monkeypatch):
    """Run something again, in a copy of what was left of it; returns its outcome and the progress it showed."""
    # A run is continued by the versions of torch and of this package that began it.
    monkeypatch.setattr(provenance, "software", lambda: expected["software"])
    documents = json.loads((data / "documents.json").read_text())
    arguments = json.loads((data / "interrupted.json").read_text())

    def run(method, name, folder):
        shutil.copytree(data / folder, tmp_path / folder)
        shown = []
        made = method(documents, path=tmp_path / f"unfinished.{name}", on_progress=shown.append, **arguments[name])
        assert [path.name for path in tmp_path.iterdir()] == [f"unfinished.{name}"]
        return made, shown

    return run


def same_run(trace, expected):
    assert trace.tokens["token_id"].tolist() == expected["token_id"]
    assert trace.expert_ids.tolist() == expected["expert_ids"]
    np.testing.assert_allclose(trace.router_logits, expected["router_logits"], atol=1e-5)
    np.testing.assert_allclose(trace.tokens["nll"], np.array(expected["nll"], float), atol=1e-4)


def test_a_capture(continued, probe, expected):
    trace, shown = continued(probe.trace, "capture", "unfinished.capture.partial")
    assert shown[0].documents == 2, "one of four documents was there"
    same_run(trace, expected["interrupted"]["capture"])


def test_a_generation(continued, probe, expected):
    trace, shown = continued(probe.trace, "generation", "unfinished.generation.parts")
    assert shown[0].documents == 3, "two of four documents were there"
    same_run(trace, expected["interrupted"]["generation"])


def test_an_ablation(continued, probe, expected):
    # An earlier version drew each placebo once.
    result, shown = continued(partial(probe.ablation, placebos=1), "ablation", "unfinished.ablation.parts")
    assert shown[0].tokens > shown[-1].total_tokens / 3, "two of five runs over every token were there"
    table, before = tables.ablation(result), expected["interrupted"]["ablation"]
    table = table[table["metric"].isin(set(before["metric"]))]  # others were added since
    assert table["metric"].tolist() == before["metric"]
    np.testing.assert_allclose(table["value"].astype(float), np.array(before["value"], float), atol=1e-5)
