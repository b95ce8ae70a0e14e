"""`info` and `report`: facts of folders, and tables as files."""

import json
import shutil

import pandas as pd
import pytest
from safetensors import safe_open

from mixtral_probe import Probe, RoutingStats, tables
from tests.support.cli import refused, run


@pytest.fixture(scope="module")
def trace(model, tmp_path_factory):
    texts = [
        {"id": "a", "text": "def add(a, b): return a + b", "domain": "code"},
        {"id": "b", "text": "It is a truth universally acknowledged", "domain": "prose"},
    ]
    path = tmp_path_factory.mktemp("traces") / "two.trace"
    return Probe.from_pretrained(model).trace(texts, attention=[1], path=path)


def facts(path):
    result = run("info", path, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_info_of_a_model(model, trace):
    said = facts(model)
    with safe_open(model / "model.safetensors", "np") as file:
        parameters = {name: file.get_tensor(name).size for name in file.keys()}  # noqa: SIM118
    idle = sum(size for name, size in parameters.items() if ".experts." in name) * 6 // 8
    assert said["parameters"] == sum(parameters.values())
    assert said["active_parameters"] == sum(parameters.values()) - idle
    assert (said["kind"], said["layers"], said["experts"], said["experts_per_token"]) == ("model", 3, 8, 2)
    assert (said["dtype"], said["layout"], said["tokenizer"]) == ("float32", "classic", True)
    assert said["files"] == {"model.safetensors": (model / "model.safetensors").stat().st_size}
    assert said["fingerprint"] == trace.meta.model["fingerprint"]


def test_info_of_a_trace(trace):
    said = facts(trace.path)
    assert (said["kind"], said["documents"], said["tokens"]) == ("trace", 2, len(trace))
    assert said["special_tokens"] == 2
    assert said["labels"] == {"domain": {"code": 1, "prose": 1}}
    assert said["recorded"] == ["expert_ids", "expert_weights", "router_logits", "nll", "attention of layers [1]"]
    assert said["model"]["name"] == "toy"
    assert said["bytes"] == sum(file.stat().st_size for file in trace.path.iterdir())


def in_words(path):
    return dict(line.split("  ", 1) for line in run("info", path).stdout.splitlines())


def test_info_of_a_model_in_words(model):
    lines = in_words(model)
    assert lines["experts per token"].strip() == "2"
    assert lines["language head"].strip() == "yes"
    assert lines["files"].strip().startswith("model.safetensors ")


def test_info_of_a_trace_in_words(trace):
    lines = in_words(trace.path)
    assert lines["documents"].strip() == "2"
    assert lines["labels"].strip() == "domain code 1, prose 1"
    assert lines["model name"].strip() == "toy"


def test_info_of_the_embedded_model():
    assert facts("mini")["kind"] == "model"


def test_weights_in_a_second_layout_do_not_count(model, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model / name, tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(b"the same once more")
    assert list(facts(tmp_path)["files"]) == ["model.safetensors"]


def test_info_of_a_broken_model(model, tmp_path):
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    assert "safetensors" in refused("info", tmp_path)


def test_a_report_has_the_tables_that_python_gives(trace, tmp_path):
    result = run("report", trace.path, "--out", tmp_path / "r", "--tables", "expert_load, balance", "--json")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)["files"]
    assert {name for name in listed if name.endswith(".csv")} == {"expert_load.csv", "balance.csv"}
    written = pd.read_csv(tmp_path / "r" / "balance.csv")
    expected = tables.balance(RoutingStats.from_trace(trace, by="domain"))
    assert list(written.columns) == list(expected.columns)
    assert len(written) == len(expected)


def test_tables_may_be_named_in_several_options(trace, tmp_path):
    result = run("report", trace.path, "--out", tmp_path / "r", "--tables", "expert_load", "--tables", "balance")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "r").glob("*.csv")) == ["balance.csv", "expert_load.csv"]


def test_a_report_as_parquet_with_a_page(trace, tmp_path):
    command = ["report", trace.path, "--out", tmp_path / "r", "--format", "parquet", "--tables", "balance", "--html"]
    result = run(*command)
    assert result.exit_code == 0
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        str(tmp_path / "r" / name) for name in ("balance.parquet", "report.html")
    ]


def test_a_report_of_what_is_none(tmp_path, trace):
    assert "must be a folder with trace.json" in refused("report", tmp_path / "no", "--out", tmp_path / "r")
    assert "got 'nonsense'" in refused("report", trace.path, "--out", tmp_path / "r", "--tables", "nonsense")
    assert run("report", trace.path, "--out", tmp_path / "r", "--format", "xls").exit_code == 2
    assert not (tmp_path / "r").exists()
