"""Each table is declared once, and its declaration is true of every table made."""

import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pandas as pd
import pytest

import mixtral_probe as mp
from mixtral_probe import tables
from mixtral_probe.resources import data_path
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import SPECS, leave_one_out
from mixtral_probe.tables.spec import TableSpec
from tests.support.routing import fixed_trace, random_trace

MODULES = [
    module.name
    for module in walk_packages(tables.__path__, "mixtral_probe.tables.")
    if not module.ispkg and module.name.count(".") == 3
]
MADE = {name: spec for name, spec in SPECS.items() if spec.source in ("trace", "stats")}
CASES = {
    "example": lambda: mp.Trace.load(data_path("example.trace")).select(range(0, 30, 3)),
    "random": lambda: random_trace(weights=True, token_ids=np.arange(200) % 40),
    "two documents": lambda: random_trace(documents=2, tokens=40, token_ids=np.arange(40) % 8),
    "one document": lambda: random_trace(documents=1, tokens=40, weights=True),
    "more documents than blocks": lambda: random_trace(documents=90, tokens=900, weights=True),
    "every expert": lambda: random_trace(experts=3, chosen=3),
    "one expert alone": lambda: fixed_trace(np.zeros((2, 30, 1), int), np.zeros((2, 30, 4)), np.arange(30) // 10),
}


@pytest.fixture(scope="module", params=CASES)
def every_table(request):
    trace = CASES[request.param]()
    labels = [None, "domain"] if "domain" in trace.labels else [None]
    stats = [RoutingStats.from_trace(trace, by=by) for by in labels]
    return [
        (spec, spec.function(source))
        for spec in MADE.values()
        for source in ([trace] if spec.source == "trace" else stats)
    ]


def with_values(every_table):
    return [(spec, table) for spec, table in every_table if "corrected" in table and len(table)]


def test_a_module_that_makes_a_table_ends_in_its_declaration():
    for name in MODULES:
        module = import_module(name)
        stem = name.rpartition(".")[2]
        own = [vars(module)[stem]] if stem in tables.__all__ else []
        assert isinstance(getattr(module, "SPEC", None), TableSpec) == bool(own), name
        if own:
            assert own == [module.SPEC.function]
            assert Path(module.__file__).read_text().rstrip().endswith(")")


def test_the_imports_of_the_package_are_the_declared_tables():
    exported = {name for name in tables.__all__ if inspect.isfunction(getattr(tables, name))}
    assert exported - {"csv_form", "write_csv", "write_parquet"} == set(SPECS)
    assert all(getattr(tables, name) is spec.function for name, spec in SPECS.items())


def test_a_metric_is_written_alike_in_every_table():
    for spec in SPECS.values():
        for name, metric in spec.metrics.items():
            other = tables.METRICS[name]
            assert (metric.label, metric.format, metric.null) == (other.label, other.format, other.null), name
            assert metric.meaning, f"{spec.name}: {name} has no meaning"
            assert metric.meaning == metric.meaning.strip()


def test_a_declaration_without_figures_is_refused():
    with pytest.raises(TypeError, match="figures"):
        TableSpec(function=len, source="trace", description="", keys=(), metrics={}, narrows=True)


def test_what_is_shown_with_an_interval_lies_inside_it(every_table):
    for spec, table in with_values(every_table):
        interval = table["low"].notna().to_numpy()
        assert (table["corrected"].notna() == interval).all(), spec.name
        part = table[interval]
        outside = part[(part["corrected"] < part["low"]) | (part["corrected"] > part["high"])]
        assert outside.empty, f"{spec.name}: {len(outside)} of {len(part)} rows\n{outside.head().to_string()}"


def test_values_lie_within_their_declared_bounds(every_table):
    for spec, table in with_values(every_table):
        for name, part in table.groupby("metric", observed=True):
            low, high = spec.metrics[name].bounds
            numbers = part[["value", "corrected", "low", "high"]].to_numpy(float)
            numbers = numbers[~np.isnan(numbers)]
            assert ((numbers >= low - 1e-9) & (numbers <= high + 1e-9)).all(), f"{spec.name}: {name}"


def test_columns_have_the_declared_dtypes(every_table):
    for spec, table in every_table:
        assert list(table.columns) == list(spec.dtypes) == list(spec.columns)
        for name, kind in spec.dtypes.items():
            if kind != "str":
                assert table[name].dtype == kind, f"{spec.name}: {name}"
            else:
                assert not pd.api.types.is_numeric_dtype(table[name].dtype) or table.empty


WHERE = "position >= 2"


@pytest.mark.parametrize("name", MADE)
def test_a_selection_narrows_what_can_be_narrowed_and_says_so(name):
    spec, trace = MADE[name], random_trace(documents=6, tokens=240, weights=True, token_ids=np.arange(240) % 30)
    if not spec.narrows:
        pytest.skip("it was summed while running")
    selected = mp.select(trace, WHERE)
    stats = RoutingStats.from_trace(trace, by="domain", where=WHERE)
    whole = spec.function(trace if spec.source == "trace" else RoutingStats.from_trace(trace, by="domain"))
    table = spec.function(selected if spec.source == "trace" else stats)
    if "scope" in table:
        assert table[table["n"] > 0]["scope"].astype("str").str.contains(WHERE, regex=False).all()
        assert not whole["scope"].astype("str").str.contains(WHERE, regex=False).any()
    assert not table.equals(whole)


RESULTS = Path(__file__).parents[1] / "compatibility" / "data" / "results"


def check_intervals(spec, table):
    interval = table["low"].notna().to_numpy()
    assert (table["corrected"].notna() == interval).all(), spec.name
    assert (table["corrected"] >= table["low"])[interval].all(), spec.name
    assert (table["corrected"] <= table["high"])[interval].all(), spec.name
    assert interval.any() or spec.name not in ("ablation", "saliency", "logit_lens", "what_if", "agreement")


@pytest.mark.parametrize("name", [name for name, spec in tables.EXPERIMENTS.items() if "corrected" in spec.columns])
def test_intervals_of_results_hold_what_is_shown(name, monkeypatch):
    monkeypatch.setattr(leave_one_out, "MIN_DOCUMENTS", 2)  # these small results have no more
    spec = tables.EXPERIMENTS[name]
    folders = [folder for folder in RESULTS.iterdir() if name in mp.Result.load(folder).TABLES]
    assert folders
    for folder in folders:
        check_intervals(spec, spec.function(mp.Result.load(folder)))


def test_intervals_of_comparisons_hold_what_is_shown():
    before, after = (random_trace(layers=2, weights=True), random_trace(layers=2, weights=True, moe_layers=(0, 1)))
    check_intervals(tables.COMPARISONS["agreement"], tables.agreement(before, after))
    steps = mp.training_traces()
    check_intervals(tables.COMPARISONS["saturation"], tables.saturation(dict(list(steps.items())[-2:])))


def test_a_scope_says_what_its_interval_is_about():
    load = tables.expert_load(RoutingStats.from_trace(random_trace(documents=6, tokens=60)))
    with_interval = load[load["low"].notna()]
    assert len(with_interval)
    assert with_interval["scope"].str.contains("95 % interval of `corrected`, the value without the bias of few").all()
