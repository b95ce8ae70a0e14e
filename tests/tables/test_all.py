"""What every table keeps to: registry, columns, sorting, dtypes, scope, files, documentation."""

import csv
import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.docs import tables_page
from mixtral_probe.trace import Trace
from tests.support.routing import fixed_trace, pick, random_trace
from tests.support.tables import check_rows

CASES = {
    "plain": lambda: random_trace(),
    "one token": lambda: random_trace(tokens=1, documents=1),
    "no logits": lambda: random_trace(logits=False),
    "weights": lambda: random_trace(logits=False, weights=True),
    "every expert": lambda: random_trace(experts=3, chosen=3),
    "many documents": lambda: random_trace(documents=90),
    "an empty group": lambda: random_trace(documents=3, tokens=30, special=np.arange(30) < 12),
    "no tokens": lambda: fixed_trace(np.zeros((2, 0, 2)).astype(int), np.zeros((2, 0, 4)), documents=[{"domain": "a"}]),
}
INTEGERS = {"layer", "other_layer", "expert", "other_expert", "lag", "rank", "head", "bin", "document", "n"}


@cache
def trace_of(case):
    return CASES[case]()


@cache
def stats_of(case, by):
    return RoutingStats.from_trace(trace_of(case), by=by)


def made(spec, trace, by=None):
    return spec.function(trace if spec.source == "trace" else RoutingStats.from_trace(trace, by=by))


@pytest.mark.parametrize("by", [None, "domain"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_keeps_its_contract(name, case, by):
    spec = tables.TABLES[name]
    table = spec.function(trace_of(case) if spec.source == "trace" else stats_of(case, by))
    assert list(table.columns) == list(spec.columns)
    keys = [key for key in spec.keys if key != "token"]
    if "metric" in table:
        keys.append("metric")
        assert set(table["metric"]) <= set(spec.metrics)
        check_rows(table)
    assert not table.duplicated(keys).any()
    pd.testing.assert_frame_equal(table, table.sort_values(keys, kind="stable", ignore_index=True))
    for column in set(table.columns) & INTEGERS:
        assert table[column].dtype == "Int64"


def test_metrics_of_the_registry_are_those_of_the_tables():
    trace = random_trace()
    for spec in tables.TABLES.values():
        if spec.metrics and not spec.name.startswith("attention_"):
            assert set(made(spec, trace, "domain")["metric"]) == set(spec.metrics)


def test_the_documentation_is_current():
    page = Path(__file__).parents[2] / "docs" / "tables.md"
    assert page.read_text() == tables_page(), "run: python -m mixtral_probe.tables.docs > docs/tables.md"


def test_routes_tell_what_was_recorded():
    trace = Trace.from_arrays(
        expert_ids=[[[2, 0], [1, -1], [0, 3]]], expert_weights=[[[0.75, 0.25], [1, 0], [0.5, 0.5]]],
        router_logits=[[[1.0, 0, 2, 0.5], [0, 3, 1, 1], [2, 0, 0, 2]]], document=[0, 0, 1], num_experts=4,
        special=[True, False, False], piece=["a", "b", None],
    )  # fmt: skip
    table = tables.routes(trace)
    assert table["expert"].tolist() == [2, 0, 1, 0, 3]
    assert table["rank"].tolist() == [0, 1, 0, 0, 1]
    assert table["document"].tolist() == [0, 0, 0, 1, 1]
    assert table["position"].tolist() == [0, 0, 1, 0, 0]
    assert table["weight"].tolist() == [0.75, 0.25, 1, 0.5, 0.5]
    assert table["margin"].tolist() == [0.5, 0.5, 2, 2, 2]
    assert table["token"].astype(object).where(table["token"].notna(), None).tolist() == ["a", "a", "b", None, None]


def test_balance_loss_tokens_counts_no_special_token():
    trace = random_trace(layers=1, tokens=20, special=np.arange(20) < 4)
    assert set(tables.balance_loss_tokens(trace)["n"]) == {16}
    assert len(tables.balance_loss_tokens(trace)) == 16
    assert len(tables.balance_loss_tokens(trace, include_special=True)) == 20
    assert tables.balance_loss_tokens(random_trace(logits=False)).attrs["note"].endswith("logits were not recorded")


def test_layers_are_numbered_as_the_model_does():
    trace = random_trace(layers=2, moe_layers=(3, 7))
    for name in ("expert_load", "routes", "balance_loss_tokens", "balance"):
        assert set(made(tables.TABLES[name], trace)["layer"]) == {3, 7}


PIECES = ["=1+1", "+x", ",", '"', "é\n", " ", "{", "nan", None]


def token_table():
    trace = Trace.from_arrays(expert_ids=np.zeros((1, 9, 1), int), num_experts=2, piece=PIECES)
    return tables.routes(trace)


def test_token_texts_in_a_csv_are_json_literals(tmp_path):
    path = tables.write_csv(token_table(), tmp_path / "routes.csv")
    back = pd.read_csv(path, keep_default_na=False, dtype=str)
    assert [json.loads(text) if text else None for text in back["token"]] == PIECES
    assert not back["token"].str.startswith("=").any()
    assert [path.name for path in tmp_path.iterdir()] == ["routes.csv"]


def test_other_texts_stay_unless_they_look_like_a_formula(tmp_path):
    trace = random_trace(documents=2)
    documents = [{"id": "0", "domain": "=cmd()"}, {"id": "1", "domain": "code"}]
    trace = Trace.from_arrays(
        expert_ids=trace.expert_ids, document=trace.tokens["document"].to_numpy(), num_experts=8, documents=documents
    )
    table = tables.expert_load(RoutingStats.from_trace(trace, by="domain"))
    back = pd.read_csv(tables.write_csv(table, tmp_path / "load.csv"))
    assert set(back["group"]) == {'"=cmd()"', "all", "code"}
    np.testing.assert_array_equal(back["value"], table["value"])


def test_a_lone_surrogate_does_not_break_the_csv(tmp_path):
    table = pd.DataFrame({"token": pd.Series(["\ud800"], dtype=object)})
    text = tables.write_csv(table, tmp_path / "a.csv").read_text()
    assert json.loads(list(csv.reader(text.splitlines()))[1][0]) == "\ud800"


def test_parquet_keeps_texts_and_types(tmp_path):
    table = token_table()
    back = pd.read_parquet(tables.write_parquet(table, tmp_path / "routes.parquet"))
    assert back["token"].astype(object).where(back["token"].notna(), None).tolist() == PIECES
    assert back.dtypes["layer"] == table.dtypes["layer"]


def test_a_failed_write_leaves_nothing(tmp_path):
    table = pd.DataFrame({"a": [object()]})
    with pytest.raises(Exception, match="object"):
        tables.write_parquet(table, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_dead_expert_and_a_lopsided_layer_raise_no_warning():
    trace = fixed_trace([[[0], [0], [0]]], [[[5.0, -5, -5], [5, -5, -5], [5, -5, -5]]], document=[0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spec in tables.TABLES.values():
            made(spec, trace)
    balance = tables.balance(RoutingStats.from_trace(trace))
    assert pick(balance, metric="dead_experts")["value"].item() == 2
