"""Every table against an independent recomputation, in loops over raw arrays, of its value, null and n."""

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.registry import SPECS
from tests.referee import (
    attention,
    comparisons,
    differences,
    experiments,
    load,
    losses,
    specialization,
    structure,
    systems,
)
from tests.referee.left_out import ELSEWHERE, LISTS, NULLS, SAME_LOADS, TESTED, VALUES
from tests.referee.record import LAYERS, awkward, regular, trace_of
from tests.referee.rows import UNCHECKED, assert_same

RECORDS = {"regular": regular, "awkward": awkward}
SUBJECTS = (load, losses, specialization, structure, systems, attention, differences, comparisons, experiments)
REFEREES = {name: getattr(subject, name) for subject in SUBJECTS for name in SPECS if hasattr(subject, name)}


@cache
def rows_of(name, which):
    return tuple(REFEREES[name](RECORDS[which]()))


@cache
def traces_of(which):
    return trace_of(RECORDS[which]()), trace_of(comparisons.changed(RECORDS[which]()))


@cache
def stats_of(which):
    return RoutingStats.from_trace(traces_of(which)[0], by="domain")


def made(name, which):
    function, (trace, other) = SPECS[name].function, traces_of(which)
    if name == "agreement":
        return function(trace, other, by="domain")
    if name == "saturation":
        return function(dict(zip(comparisons.STEPS, (other, trace), strict=True)), by="domain")
    if name == "slice_differences":
        return function(*(RoutingStats.from_trace(trace, where=where) for where in differences.SLICES))
    if name == "route_overlap":
        return function(trace, *comparisons.PAIR)
    query = {"document": attention.DOCUMENT, "chunk": attention.CHUNK, "query": attention.QUERY}
    if name == "attended_experts":
        return function(attention.attentive_trace(RECORDS[which]()), layer=LAYERS[0], **query)
    if name == "attention_rollout":
        return function(attention.attentive_trace(RECORDS[which](), layers=None), **query)
    if name in ("attention_summary", "attention_routing"):
        return function(attention.attentive_trace(RECORDS[which]()))
    if SPECS[name].source == "stats":
        return function(stats_of(which))
    return function(trace, by="domain") if name != "balance_loss_tokens" else function(trace)


OF_RECORDS = [name for name in REFEREES if name not in experiments.RESULTS]


@pytest.mark.parametrize("which", RECORDS)
@pytest.mark.parametrize("name", OF_RECORDS)
def test_a_table_is_what_its_declaration_says(name, which):
    rows = list(rows_of(name, which))
    assert_same(made(name, which), SPECS[name].keys, rows, metrics={row.metric for row in rows})


@pytest.mark.parametrize("name", experiments.RESULTS)
def test_a_table_of_a_result_is_what_its_declaration_says(name):
    result = experiments.RESULTS[name]()
    assert_same(SPECS[name].function(result), SPECS[name].keys, list(REFEREES[name](result)))


def every_row(name):
    if name in experiments.RESULTS:
        return list(REFEREES[name](experiments.RESULTS[name]()))
    return [row for which in RECORDS for row in rows_of(name, which)]


def test_every_metric_has_a_referee_or_a_reason():
    assert set(REFEREES) | LISTS | set(ELSEWHERE) == set(SPECS)
    assert not set(REFEREES) & (LISTS | set(ELSEWHERE))
    assert left_out("value") == set(VALUES)


def test_every_null_has_a_referee_or_a_reason():
    assert left_out("null") == set(NULLS)


def test_every_null_of_the_same_load_has_a_referee_or_a_reason():
    assert left_out("null_same_load") == set(SAME_LOADS)


def left_out(column):
    """Table and metric of which no row has a number of the referee."""
    found = set()
    for name in (name for name in REFEREES if column in SPECS[name].values):
        numbers = [(row.metric, getattr(row, column)) for row in every_row(name)]
        checked = {metric for metric, number in numbers if number is not UNCHECKED and not np.isnan(number)}
        found |= {(name, metric) for metric in SPECS[name].metrics if metric not in checked}
    return found


LESS_NULL = {
    "context_information": ("mutual_information_bits", "mutual_information_bits_corrected"),
    "domain_information": ("mutual_information_bits", "mutual_information_bits_above_shuffles"),
    "mutual_information": ("mutual_information_bits", "mutual_information_bits_corrected"),
}


@pytest.mark.parametrize("name", LESS_NULL)
def test_what_is_above_chance_is_the_value_less_its_null(name):
    table = made(name, "awkward")
    plain, corrected = (rows_about(table, metric) for metric in LESS_NULL[name])
    np.testing.assert_allclose(corrected["value"], plain["value"] - plain["null"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TESTED)
def test_false_discovery_rates_are_those_of_the_p_values(name):
    table = made(name, "awkward")
    p, rates = (rows_about(table, f"shuffle_{metric}") for metric in ("p_value", "false_discovery"))
    assert set(p["null"]) == {0.5}
    assert set(rates["null"]) == {1}
    families = p.groupby(["variable", "min_count"], dropna=False).groups.values() if "min_count" in p else [p.index]
    for family in families:
        found, known = rates.loc[family, "value"], p.loc[family, "value"].dropna()
        assert found.isna().equals(p.loc[family, "value"].isna())
        np.testing.assert_allclose(found.dropna(), [rate_of(value, known) for value in known], rtol=1e-9)


def rows_about(table, metric):
    return table[table["metric"] == metric].reset_index(drop=True)


def rate_of(p, family):
    """Benjamini and Hochberg: the least of p m / rank over all p-values from this one on."""
    return min(1, min(other * len(family) / sum(family <= other) for other in family if other >= p))


FILES = [file for file in Path(__file__).parent.glob("*.py") if not file.name.startswith("test_")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_referee_imports_nothing_of_what_it_judges(file):
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    ours = {module for module in modules if module.split(".")[0] in ("mixtral_probe", "app")}
    assert ours <= {"mixtral_probe.trace"}
    assert {module for module in modules if module.startswith("tests")} <= {f"tests.referee.{f.stem}" for f in FILES}
