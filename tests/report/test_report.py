"""The report: files equal to the tables, one page without the network, nothing half-written."""

import json
import os
import re

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from mixtral_probe import figures, report
from mixtral_probe.errors import InputError
from mixtral_probe.report import write, write_report
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables import TABLES, csv_form
from mixtral_probe.tables.registry import SPECS
from tests.support.figures import drawn, hostile_trace, tables_of
from tests.support.routing import random_trace

WHERE = "layer in 0..1"


@pytest.fixture(scope="module")
def trace():
    return hostile_trace()


@pytest.fixture(scope="module")
def page(trace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    write_report([trace], folder, html=True)
    return (folder / "report.html").read_text(encoding="utf-8")


def own_markup(page):
    """The page without scripts, which no reader of text can put anything into."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_every_table_is_a_csv_with_exactly_its_values(trace, tmp_path):
    paths = write_report([trace], tmp_path / "r")
    tables = tables_of(trace)
    assert [path.name for path in paths] == [f"{name}.csv" for name in TABLES]
    for path in paths:
        table = csv_form(tables[path.stem])
        held = pd.read_csv(path, keep_default_na=False, na_values=[""])
        assert list(held.columns) == list(table.columns)
        assert len(held) == len(table)
        for name in ("value", "weight", "low", "null"):
            if name in held and len(held):
                pd.testing.assert_series_equal(held[name], table[name], check_dtype=False)
    assert {path.name for path in (tmp_path / "r").iterdir()} == {path.name for path in paths} | {"report.json"}


def test_parquet_keeps_the_tables_to_the_bit(tmp_path):
    trace = random_trace(0, weights=True)
    tables = tables_of(trace)
    for path in write_report([trace], tmp_path / "r", format="parquet"):
        assert_frame_equal(pd.read_parquet(path), tables[path.stem], check_dtype=False, check_categorical=False)


@pytest.mark.parametrize("copies", [1, 2])
def test_texts_that_utf8_cannot_hold_are_spelled_out(trace, tmp_path, copies):
    (path,) = write_report([trace] * copies, tmp_path / "r", format="parquet", tables=["routes"])
    held = pd.read_parquet(path)
    assert set(held["token"]) == {"<script>alert(1)</script>", "=1+1", "\\ud800", "&amp;", "\n", " a"}
    assert len(held) == copies * 60 * 3 * 2


def test_several_traces_share_each_file_under_names_that_differ(tmp_path):
    first, second = random_trace(1), random_trace(2)
    first.save(tmp_path / "a" / "run.trace")
    second.save(tmp_path / "b" / "run.trace")
    paths = write_report(
        [tmp_path / "a" / "run.trace", str(tmp_path / "b" / "run.trace")], tmp_path / "r", tables=["balance"]
    )
    held = pd.read_csv(paths[0])
    assert held.columns[0] == "trace"
    assert list(held["trace"].unique()) == ["run", "run (2)"]
    for name, trace in (("run", first), ("run (2)", second)):
        own = held[held["trace"] == name]["value"].reset_index(drop=True)
        pd.testing.assert_series_equal(own, tables_of(trace)["balance"]["value"])


def test_without_domains_there_is_only_the_group_all(tmp_path):
    trace = random_trace(0)
    plain = type(trace).from_arrays(expert_ids=trace.expert_ids, num_experts=8)
    (path,) = write_report([plain], tmp_path / "r", tables=["expert_load"])
    assert set(pd.read_csv(path)["group"]) == {"all"}


def test_saved_statistics_are_read_when_they_fit_and_only_then(tmp_path, monkeypatch):
    trace = random_trace(0)
    path = trace.save(tmp_path / "t")
    made = []
    original = RoutingStats.from_trace.__func__

    def counted(cls, *args, **more):
        made.append(more)
        return original(cls, *args, **more)

    saved = RoutingStats.from_trace(trace, by="domain")
    monkeypatch.setattr(RoutingStats, "from_trace", classmethod(counted))
    saved.save(path / "stats.safetensors")
    write_report([path], tmp_path / "r1", tables=["balance"])
    assert not made
    saved.pooled().save(path / "stats.safetensors")  # grouped otherwise
    with pytest.warns(UserWarning, match="is of another trace, or grouped otherwise"):
        write_report([path], tmp_path / "r2", tables=["balance"])
    assert len(made) == 1
    assert (tmp_path / "r1" / "balance.csv").read_bytes() == (tmp_path / "r2" / "balance.csv").read_bytes()


def test_large_per_token_tables_are_left_out_unless_named(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "PER_TOKEN_LIMIT", 700)  # 200 tokens × 3 layers, and × 2 choices
    trace = random_trace(0)
    names = {path.name for path in write_report([trace], tmp_path / "r")}
    assert "balance_loss_tokens.csv" in names
    assert not any("routes" in name for name in names)
    assert "more than 700 rows" in json.loads((tmp_path / "r" / "report.json").read_text())["left_out"]["routes"]
    (named,) = write_report([trace], tmp_path / "n", tables=["routes"])
    assert named.name == "routes.parquet"
    assert len(pd.read_parquet(named)) == 1200


def test_the_page_asks_the_network_for_nothing(page):
    markup = own_markup(page)
    assert not re.findall(r"""(?:src|href|action|poster)\s*=\s*["']?\s*(?:[a-z]+:)?//""", markup)
    assert not re.search(r"<(?:link|img|iframe|object|embed|base)\b|@import|url\(", markup)
    assert "default-src 'none'" in page
    held = json.loads(re.search(r'id="themes">(.*?)</script>', page, flags=re.DOTALL).group(1))["config"]
    assert held["plotlyServerURL"] == ""
    assert "sendChartToCloud" not in str(held["modeBarButtons"])
    css = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL).group(1)
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css
    assert page.count("Plotly.react") >= 1
    assert page.count("plotly.js v") >= 1


def test_no_text_of_a_trace_becomes_markup(page):
    markup = own_markup(page)
    assert "<img" not in markup
    assert "alert(2)" in markup
    for script in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL):
        assert "<" not in script
        json.loads(script)


def test_the_page_has_a_section_with_link_headline_scope_and_rows_for_every_table(page):
    for name in TABLES:
        section = re.search(rf'<section id="{name}">(.*?)</section>', page, flags=re.DOTALL).group(1)
        assert f'href="{name}.csv"' in section
        assert "Scope: " in section
    assert "The most used expert is expert" in page
    assert "no attention was recorded" in page
    assert "Origin" in page
    assert "alert(2)" in page


def test_headlines_tell_the_extreme_rows(trace, page):
    load = tables_of(trace)["expert_load"]
    rows = load[(load["metric"] == "share") & (load["group"] == "all")]
    place = drawn(rows).argmax()
    top, share = rows.iloc[place], drawn(rows)[place]
    assert f"The most used expert is expert {top['expert']} of layer {top['layer']}: {share:.1%} (" in page


def test_an_earlier_report_is_replaced_whole_and_anything_else_refused(tmp_path):
    trace, out = random_trace(0), tmp_path / "r"
    write_report([trace], out, tables=["balance", "expert_load"])
    write_report([trace], out, tables=["balance"], format="parquet")
    assert {path.name for path in out.iterdir()} == {"balance.parquet", "report.json"}
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"no other files in it, got .* with mine\.txt; name another folder"):
        write_report([trace], out, tables=["balance"])
    assert (out / "mine.txt").read_text() == "keep me"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="got a folder with other contents"):
        write_report([trace], other)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder, got a file"):
        write_report([trace], tmp_path / "file")


def test_a_failure_leaves_the_old_report_and_nothing_half_written(tmp_path, monkeypatch):
    trace, out = random_trace(0), tmp_path / "r"
    write_report([trace], out, tables=["balance"])
    before = (out / "balance.csv").read_bytes()

    def broken(*_):
        raise RuntimeError("power cut")

    monkeypatch.setitem(write._WRITERS, "parquet", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        write_report([trace], out, tables=["balance"], format="parquet")
    assert (out / "balance.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(InputError, match="must be writable, got"):
        write_report([random_trace(0)], tmp_path / "shut" / "r", tables=["balance"])


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable, got"):
        write_report([random_trace(0)], tmp_path / "file" / "r", tables=["balance"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tables": ["lode"]}, "a table must be one of balance, .*, got 'lode'"),
        ({"tables": []}, "must name at least one table, got none"),
        ({"tables": "balance"}, "must be a list of names"),
        ({"format": "xlsx"}, "must be csv or parquet, got 'xlsx'"),
        ({"traces": []}, "at least one trace"),
        ({"traces": ["nowhere.trace"]}, "must be a folder with trace.json in it"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, more, message):
    arguments = {"traces": [random_trace(0)], "out": tmp_path / "r"} | more
    with pytest.raises(InputError, match=message):
        write_report(**arguments)
    assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrowed") / "report"
    write_report([random_trace(0, weights=True, token_ids=np.arange(200) % 40)], folder, where=WHERE)
    return folder


@pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)
def test_a_selection_narrows_a_table_or_the_report_says_that_it_cannot(narrowed, spec):
    file = narrowed / f"{spec.name}.csv"
    left_out = json.loads((narrowed / "report.json").read_text())["left_out"]
    assert file.is_file() is spec.narrows
    assert (spec.name in left_out) is not spec.narrows
    if not spec.narrows:
        return
    table = pd.read_csv(file)
    table = table[table["n"] > 0] if "n" in table else table
    assert len(table) or spec.name == "expert_tokens"  # no type was met often enough
    if "layer" in table:
        assert set(table["layer"].dropna()) <= {0, 1}
    if "scope" in table:
        assert table["scope"].str.contains(WHERE, regex=False).all()


def test_every_drawing_is_a_figure():
    names = {drawing.figure for spec in SPECS.values() for drawing in spec.figures}
    assert names <= {name for name in figures.__all__ if callable(getattr(figures, name))}


def test_the_limit_is_the_documented_one():
    assert report.PER_TOKEN_LIMIT == 1_000_000
