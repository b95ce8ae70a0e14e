"""Traces, statistics, results and edits that an earlier version wrote are read with the same numbers."""

import csv
import json

import numpy as np
import pytest

import mixtral_probe as mp
from mixtral_probe import tables
from mixtral_probe.report import write_report
from mixtral_probe.stats import routing_stats
from mixtral_probe.trace import Result

KINDS = ["ablation", "saliency", "expert_similarity", "expert_subsets", "timing", "logit_lens", "what_if"]
REDEFINED = ["frequency_log2_ratio", "vocabulary_specialization_crossval"]
"""Metrics whose formula has changed since, so that the same sums give another value."""


@pytest.fixture(scope="module")
def trace(data):
    return mp.Trace.load(data / "run.trace")


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-6, atol=1e-9)


def check_table(table, expected):
    """The same rows and values; columns, and rows of metrics that did not exist, may be added in any place."""
    if "metric" in expected:
        table = table[table["metric"].isin(set(expected["metric"]))]
    assert [name for name in table.columns if name in expected["columns"]] == expected["columns"]
    assert len(table) == expected["rows"]
    if "metric" in expected:
        assert table["metric"].tolist() == expected["metric"]
    if "value" in expected:
        same = ~table["metric"].isin(REDEFINED).to_numpy() if "metric" in table else slice(None)
        close(table["value"].astype(float)[same], np.array(expected["value"], float)[same])


@pytest.mark.parametrize("name", ["expert_ids", "expert_weights", "router_logits"])
def test_arrays_of_a_trace(trace, expected, name):
    close(getattr(trace, name), expected["trace"][name])


def test_attention_of_a_trace(trace, expected):
    assert {str(layer) for layer in trace.attention_record.plan.layers} == set(expected["trace"]["attention"])
    for layer, maps in expected["trace"]["attention"].items():
        close(trace.attention(2, int(layer)), maps)


def test_tokens_and_documents_of_a_trace(trace, expected):
    for frame, columns in (
        (trace.tokens, expected["trace"]["tokens"]),
        (trace.documents, expected["trace"]["documents"]),
    ):
        assert set(columns) <= set(frame.columns)
        for name, values in columns.items():
            found = frame[name].astype(object).where(frame[name].notna(), None).tolist()
            if name == "nll":
                found, values = ([np.nan if x is None else x for x in column] for column in (found, values))
                close(found, values)
            else:
                assert found == values, name


def test_statistics(data, trace, expected):
    stats = mp.RoutingStats.load(data / "run.trace" / "stats.safetensors")
    for name, table in expected["statistics"].items():
        check_table(getattr(tables, name)(stats), table)


def test_the_saved_statistics_of_a_trace_are_used(trace, monkeypatch):
    def counted(*arguments, **options):
        raise AssertionError("the statistics in the trace's folder must be read, not computed again")

    monkeypatch.setattr(mp.RoutingStats, "from_trace", counted)
    assert routing_stats(trace).by == "domain"


@pytest.mark.parametrize("kind", KINDS)
def test_a_result(data, expected, kind):
    result = Result.load(data / "results" / kind)
    assert result.kind == kind
    assert {name: list(array.shape) for name, array in result.arrays.items()} == expected["results"][kind]["arrays"]
    for name, table in expected["results"][kind]["tables"].items():
        check_table(getattr(tables, name)(result), table)


@pytest.mark.parametrize("kind", ["ablation", "what_if"])
def test_the_one_placebo_of_a_result_is_no_band(data, kind):
    table = tables.SPECS[kind].function(Result.load(data / "results" / kind))
    compared = table[table["placebo_draws"].notna()]
    assert compared["placebo_draws"].eq(1).all()
    assert compared["scope"].str.contains("1 draw of the placebo: no band").all()
    assert compared["null"].notna().any()
    assert table[["placebo_low", "placebo_high", "p"]].isna().all(axis=None)


def test_every_kind_of_result_is_here(data):
    assert sorted(path.name for path in (data / "results").iterdir()) == sorted(KINDS)


def test_edits(data):
    edits = mp.edits.load(data / "edits.json")
    assert [type(edit).__name__ for edit in edits] == [
        "MaskExpert", "ZeroExpert", "MeanExpert", "ForceExperts", "BiasRouter", "Temperature", "TopK", "SwapExperts",
        "RandomRouting", "NoiseRouter", "MaskHead", "ScaleHead",
    ]  # fmt: skip
    assert json.loads(mp.edits.to_json(edits)) == json.loads((data / "edits.json").read_text())


def test_a_report_has_every_file_and_column_of_before(data, expected, tmp_path):
    write_report([data / "run.trace"], tmp_path / "report")
    for name, columns in expected["report"].items():
        with (tmp_path / "report" / name).open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        assert [column for column in header if column in columns] == columns, name
