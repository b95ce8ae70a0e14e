"""What is drawn and said lies in the interval that stands with it, in every table, figure and sentence."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import Trace, figures
from mixtral_probe.figures.words import hover_texts, rows_of
from mixtral_probe.notebook.load import summary
from mixtral_probe.report.drawings import draw
from mixtral_probe.report.headlines import headline, telling_row
from mixtral_probe.resources import data_path
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import TABLES, csv_form
from mixtral_probe.tables.registry import metric_of
from tests.support.figures import drawn, tables_of
from tests.support.routing import random_trace

TRACES = ("example", "random", "few")
METRIC_TABLES = [name for name, spec in TABLES.items() if "value" in spec.values and not spec.per_token]
INTERVAL = re.compile(r"([\d.,+–−-]+%?) \(95 % interval ([\d.,+–−-]+%?) to ([\d.,+–−-]+%?)")


@cache
def tables(name):
    ids = np.random.default_rng(0).integers(0, 40, 300)
    if name == "example":
        return tables_of(Trace.load(data_path("example.trace")))
    documents = {"random": 7, "few": 2}[name]
    return tables_of(random_trace(1, tokens=300, documents=documents, weights=True, token_ids=ids))


def number(text):
    return float(text.replace(",", "").replace("–", "nan").rstrip("%"))


@pytest.mark.parametrize("name", METRIC_TABLES)
@pytest.mark.parametrize("trace", TRACES)
def test_every_estimate_lies_in_its_interval(trace, name):
    table = tables(trace)[name]
    for metric in table["metric"].unique():
        rows = rows_of(table, metric)
        np.testing.assert_array_equal(rows["estimate"], drawn(rows))
        inside = rows[rows["low"].notna()]
        assert (inside["low"] <= inside["estimate"]).all()
        assert (inside["estimate"] <= inside["high"]).all()


@pytest.mark.parametrize("name", METRIC_TABLES)
@pytest.mark.parametrize("trace", TRACES)
def test_whiskers_reach_from_what_is_drawn_to_the_ends_of_an_interval(trace, name):
    table = tables(trace)[name]
    ends = table[["low", "high"]].to_numpy(float)
    for figure in draw(TABLES[name], table):
        for part in figure.data:
            for axis, errors in (
                (("x", part["error_x"]), ("y", part["error_y"])) if part.type in ("bar", "scatter") else ()
            ):
                if errors.array is None:
                    continue
                above, below = np.asarray(errors.array, float), np.asarray(errors.arrayminus, float)
                assert np.nanmin([*above, *below, 0.0]) >= 0
                middle = np.asarray(part[axis], float)
                for end, side in ((middle + above, 1), (middle - below, 0)):
                    known = np.sort(ends[:, side][~np.isnan(ends[:, side])])
                    for value in end[~np.isnan(end)]:
                        assert np.isclose(known[np.searchsorted(known, value - 1e-9)], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("trace", TRACES)
def test_a_sentence_names_a_number_inside_its_interval(trace):
    sentences = [headline(name, table) for name, table in tables(trace).items()]
    shares = [text for text in sentences if "95 % interval" in text]
    assert bool(shares) == (trace != "few")  # two documents give no interval
    for estimate, low, high in (match for text in shares for match in INTERVAL.findall(text)):
        assert number(low) <= number(estimate) <= number(high)
    for name, table in tables(trace).items():
        if (row := telling_row(name, table)) is not None:
            assert metric_of(row["metric"]).text(row["estimate"]) in headline(name, table)


def test_the_picture_of_statistics_names_numbers_inside_their_intervals():
    text = summary(RoutingStats.from_trace(random_trace(1, tokens=300, documents=7, weights=True)))
    cells = re.findall(r": ([\d.]+)% \(95 % interval ([\d.]+)%? to ([\d.]+)%", text)
    assert len(cells) >= 24
    assert all(float(low) <= float(estimate) <= float(high) for estimate, low, high in cells)


@pytest.mark.parametrize("name", METRIC_TABLES)
def test_hover_has_the_estimate_and_the_plain_value_where_it_is_written_otherwise(name):
    table = tables("few")[name]
    for metric in table["metric"].unique():
        rows, quantity = rows_of(table, metric), metric_of(metric)
        for text, value, estimate in zip(
            hover_texts(rows, ("metric",), quantity), rows["value"], drawn(rows), strict=True
        ):
            assert f"{quantity.label}: <b>{quantity.text(estimate)}</b>" in text
            same = quantity.text(value) == quantity.text(estimate)
            assert (f"<br>plain value: {quantity.text(value)}<br>" in text) is not same


def test_a_table_of_an_older_version_is_drawn_with_its_values(tmp_path):
    for name in ("expert_load", "balance", "cache_simulation", "coactivation"):
        table = csv_form(tables("random")[name]).drop(columns="corrected")
        table.to_csv(tmp_path / "old.csv", index=False)
        older = pd.read_csv(tmp_path / "old.csv")
        metric = older["metric"].iloc[0]
        np.testing.assert_array_equal(rows_of(older, metric)["estimate"], rows_of(older, metric)["value"])
        assert len(getattr(figures, name)(older).data)


def test_a_map_is_coloured_by_the_number_its_hover_names():
    table = tables("few")["expert_load"]
    heat, markers = figures.expert_load_map(table, metric="share").data
    texts = [f"<b>{value:.1%}</b>" for value in heat.z.ravel()]
    assert all(text in hover for text, hover in zip(texts, markers.hovertext, strict=True))
