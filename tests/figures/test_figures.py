"""Figures hold exactly the values of their tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import figures
from mixtral_probe.errors import InputError
from mixtral_probe.tables.registry import metric_of
from tests.support.figures import as_json, drawn, tables_of
from tests.support.routing import random_trace

ROOM = Path(figures.__file__).parent


@pytest.fixture(scope="module")
def tables():
    return tables_of(random_trace(1, layers=3, tokens=240, documents=6, weights=True))


def rows(table, metric, group="all", **keys):
    mask = (table["metric"] == metric) & (table["group"] == group)
    for key, value in keys.items():
        mask &= table[key] == value
    return table[mask]


@pytest.mark.parametrize("metric", ["share", "selection_frequency", "gate_share", "mean_probability"])
def test_expert_load_has_a_bar_with_its_interval_for_every_row(tables, metric):
    figure = figures.expert_load(tables["expert_load"], metric=metric)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 3
    for layer, bar in enumerate(bars):
        own = rows(tables["expert_load"], metric, layer=layer)
        np.testing.assert_array_equal(bar.x, own["expert"].to_numpy(int))
        np.testing.assert_array_equal(bar.y, drawn(own))
        np.testing.assert_allclose(bar.y + bar.error_y.array, own["high"], rtol=1e-12)
        np.testing.assert_allclose(bar.y - bar.error_y.arrayminus, own["low"], rtol=1e-12)
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert all(np.all(line.y == own["null"].iloc[0]) for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (np.nan, "–"),
        (0.01234, "0.0123"),
        (999.4, "999"),
        (999.6, "1,000"),
        (3056.2, "3,056"),
        (2e8, "2e+08"),
    ],
)
def test_a_number_needs_no_exponent_below_ten_million(value, text):
    assert metric_of("largest_output").text(value) == text


def test_expert_load_of_one_layer_and_group(tables):
    figure = figures.expert_load(tables["expert_load"], layer=2, group="law")
    (bar,) = (trace for trace in figure.data if trace.type == "bar")
    np.testing.assert_array_equal(bar.y, drawn(rows(tables["expert_load"], "share", "law", layer=2)))
    assert "group law" in figure.layout.title.subtitle.text


def test_map_lays_a_clickable_marker_over_every_cell(tables):
    figure = figures.expert_load_map(tables["expert_load"])
    heat, overlay = figure.data
    own = rows(tables["expert_load"], "share")
    np.testing.assert_array_equal(heat.z, drawn(own).reshape(3, 8))
    assert overlay.marker.opacity == 0
    assert "square" in overlay.marker.symbol
    # Plain lists of plain numbers: a typed array would come back from a click as a dictionary.
    sent = as_json(figure)["data"][1]["customdata"]
    assert sent == [[int(layer), int(expert)] for layer, expert in zip(own["layer"], own["expert"], strict=True)]
    np.testing.assert_array_equal(overlay.y, own["layer"].to_numpy(int))
    assert figure.layout.clickmode == "event+select"


def test_map_is_centred_on_even_use(tables):
    axis = figures.expert_load_map(tables["expert_load"]).layout.coloraxis
    assert (axis.cmin + axis.cmax) / 2 == pytest.approx(1 / 8)
    assert "even use" in axis.colorbar.ticktext[2]


def test_values_beyond_twice_the_null_are_said_to_be_beyond():
    frame = pd.DataFrame(
        {"layer": 0, "group": "all", "expert": range(4), "metric": "share", "value": [0.7, 0.1, 0.1, 0.1]}
    )
    axis = figures.expert_load_map(frame.assign(low=np.nan, high=np.nan, null=0.25, n=9, scope="s")).layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0, 0.5)
    assert axis.colorbar.ticktext[-1] == "≥ 50.0%"


def test_groups_stand_beside_all_in_every_layer(tables):
    heat = [trace for trace in figures.expert_load_groups(tables["expert_load"]).data if trace.type == "heatmap"]
    assert len(heat) == 3
    for layer, panel in enumerate(heat):
        for row, group in enumerate(["code", "law", "math", "all"]):
            np.testing.assert_array_equal(panel.z[row], drawn(rows(tables["expert_load"], "share", group, layer=layer)))


def test_ranks_are_bars_side_by_side(tables):
    bars = [trace for trace in figures.load_by_rank(tables["load_by_rank"], layer=1).data if trace.type == "bar"]
    for rank, bar in enumerate(bars):
        own = rows(tables["load_by_rank"], "rank_share", layer=1, rank=rank)
        np.testing.assert_array_equal(bar.y, drawn(own))
    assert len(bars) == 2


def test_balance_draws_null_line_and_values(tables):
    figure = figures.balance(tables["balance"], metrics=["cv_squared"])
    null, main = figure.data[-2:]
    own = rows(tables["balance"], "cv_squared")
    np.testing.assert_array_equal(main.y, drawn(own))
    np.testing.assert_array_equal(null.y, own["null"])
    np.testing.assert_allclose(main.y + main.error_y.array, own["high"], rtol=1e-12)


def test_every_loss_variant_has_its_own_balanced_line(tables):
    table = tables["balance_loss"]
    figure = figures.balance_loss(table)
    over = table[table["layer"].isna()]
    found = {float(trace.x[0]) for trace in figure.data if trace.line.dash == "dash" and len(set(trace.x)) == 1}
    assert found == {1.0, 2.0, np.log(8) ** 2}
    nulls = {group: rows["null"].tolist() for group, rows in over.groupby("group")}
    drawn_nulls = [trace.x[1:-1] for trace in figure.data if trace.line.dash == "dot" and len(set(trace.x)) > 1]
    assert [of_group[0] for of_group in drawn_nulls[:2]] == [nulls["code"][0], nulls["code"][1]]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    pooled = over[over["metric"] == "load_balancing_loss_pooled"]
    pooled = pd.Series(drawn(pooled), index=pooled["group"])
    np.testing.assert_array_equal(dots[1].x[np.argsort(dots[1].y)], pooled.loc[["code", "law", "math", "all"]])


@pytest.mark.parametrize("metric", ["contribution", "excess", "pooling_gap_groups"])
def test_breakdown_holds_the_parts(tables, metric):
    heat = figures.balance_loss_breakdown(tables["balance_loss_breakdown"], metric=metric).data[0]
    own = rows(tables["balance_loss_breakdown"], metric)
    np.testing.assert_array_equal(heat.z, drawn(own).reshape(3, 8))


def test_breakdown_by_group_has_a_panel_each_and_pooled_layers_one_row(tables):
    table = tables["balance_loss_breakdown"]
    assert sum(trace.type == "heatmap" for trace in figures.balance_loss_breakdown(table, group=None).data) == 4
    figure = figures.balance_loss_breakdown(table, metric="pooling_gap_layers")
    assert figure.data[0].z.shape == (1, 8)
    assert figure.layout.yaxis.ticktext == ("all layers",)
    assert as_json(figure)["data"][1]["customdata"][3] == [None, 3]


def test_confidence_shows_mean_and_middle_half(tables):
    table = tables["router_confidence"]
    figure = figures.router_confidence(table, metrics=["topk_mass"])
    own = rows(table, "topk_mass")
    lines = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(lines["all"].y, drawn(own[own["statistic"] == "mean"]))
    np.testing.assert_array_equal(lines["middle half of the tokens"].y, drawn(own[own["statistic"] == "q75"]))


def test_histogram_puts_every_share_at_the_middle_of_its_bin(tables):
    table = tables["router_confidence_histogram"]
    heat = figures.router_confidence_histogram(table, metric="router_entropy").data[0]
    own = rows(table, "router_entropy")
    assert np.nansum(heat.z) == pytest.approx(own["value"].sum())
    row = own.iloc[len(own) // 2]
    column = np.argmin(np.abs(heat.x - (row["left"] + row["right"]) / 2))
    assert heat.x[column] == pytest.approx((row["left"] + row["right"]) / 2)
    assert heat.z[int(row["layer"]), column] == row["value"]


def test_heads_of_layers_that_were_not_all_recorded():
    frame = pd.DataFrame(
        {"layer": [0, 0, 5], "group": "all", "head": [1, 3, 3], "metric": "sink_share", "value": [0.1, 0.2, 0.3]}
    )
    figure = figures.attention_summary(frame.assign(low=0.0, high=1.0, null=0.5, n=4, scope="s"), metric="sink_share")
    np.testing.assert_array_equal(figure.data[0].z, [[0.1, 0.2], [np.nan, 0.3]])
    assert as_json(figure)["data"][1]["customdata"] == [[0, 1], [0, 3], [5, 3]]
    assert figure.layout.yaxis.ticktext == ("0", "5")


def test_what_a_table_lacks_is_said(tables):
    with pytest.raises(InputError, match=r"layer must be one the table has \(0, 1, 2\), got 40"):
        figures.expert_load(tables["expert_load"], layer=40)
    with pytest.raises(InputError, match=r"metric must be one the table has \(gate_share, .* got 'shares'"):
        figures.expert_load_map(tables["expert_load"], metric="shares")
    with pytest.raises(InputError, match=r"group must be one the table has .* got 'art'"):
        figures.balance(tables["balance"], group="art")
    with pytest.raises(InputError, match="needs rows, got an empty table"):
        figures.attention_summary(tables["attention_summary"])


def test_hover_says_value_interval_null_and_n(tables):
    figure = figures.expert_load_map(tables["expert_load"])
    for word in ("layer 0", "expert 0", "share of assignments", "95 % interval", "even use: 12.5%", "n: 240 tokens"):
        assert word in figure.data[1].hovertext[0]


def test_figures_of_the_largest_mixtral_stay_below_two_megabytes():
    tables = tables_of(random_trace(2, layers=32, tokens=300, documents=26, weights=True))
    names = [
        "expert_load",
        "load_by_rank",
        "balance",
        "balance_loss",
        "router_confidence",
        "router_confidence_histogram",
    ]
    drawn = [getattr(figures, name)(tables[name]) for name in names]
    drawn += [figures.expert_load_map(tables["expert_load"]), figures.expert_load_groups(tables["expert_load"])]
    drawn += [figures.balance_loss_breakdown(tables["balance_loss_breakdown"], group=None)]
    assert max(len(figure.to_json(engine="json")) for figure in drawn) < 2e6


def test_figures_see_tables_and_the_registry_and_nothing_behind_them():
    lines = [line for file in ROOM.rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()]
    rooms = {line.split()[1] for line in lines if line.startswith(("from mixtral_probe", "import mixtral_probe"))}
    outside = {room for room in rooms if not room.startswith("mixtral_probe.figures")}
    assert outside == {"mixtral_probe.errors", "mixtral_probe.tables.registry"}
