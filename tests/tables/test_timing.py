"""The table `timing` and its figures."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import InputError, figures, metrics, tables
from mixtral_probe.tables import EXPERIMENTS
from mixtral_probe.trace import Result, TimingResult
from tests.support.figures import as_json

SITES = (
    "attention_input", "query", "key", "value", "head_output", "attention_output", "router_input", "router_logits",
    "routing", "expert_output", "moe_output", "residual",
)  # fmt: skip


def timed(runs: int = 7, *, memory: bool = True) -> TimingResult:
    """Two layers of three experts in which every number is known: site s of layer l takes (s + 1)(l + 1) ms."""
    noise = 1 + 0.1 * (np.arange(runs) - runs // 2)  # the median run is the one in the middle
    site = 1e-3 * np.arange(1, 13)[None, :, None] * np.array([1, 2])[:, None, None] * noise
    rows = np.array([[6, 2, 0], [3, 4, 1]])
    expert = site[:, [9]] * np.array([[0.75, 0.25, 0], [0.5, 0.25, 0.25]])[..., None]
    place = 1e-3 * np.array([4, 50, 6])[:, None] * noise
    arrays = {
        "site_seconds": site, "expert_seconds": expert, "place_seconds": place, "layer_seconds": site.sum(1),
        "seconds_timed": 0.3 * np.ones(runs), "seconds_plain": 0.2 * np.ones(runs), "expert_rows": rows,
    }  # fmt: skip
    if memory:
        arrays |= {"site_bytes": np.full((2, 12), 100), "expert_bytes": rows * 8, "place_bytes": np.array([1, 2, 900])}
    meta = {"device": "cpu", "dtype": "float32", "model": {"name": "toy"}}
    how = {"clock": "host clock", "warmup": 2, "tokens": 4, "positions": 4, "batches": 1}
    labels = {"site": SITES, "place": ("embedding", "logits", "forward")}
    return TimingResult.of(arrays, labels, meta | {"timing": how})


def pick(table, metric, **keys):
    for name, value in ({"layer": None, "site": None, "expert": None} | keys).items():
        held = table[name]
        table = table[(held.isna() if value is None else (held == value).fillna(False)).to_numpy(dtype=bool)]
    return table[(table["metric"] == metric).to_numpy(dtype=bool)]


def test_milliseconds_and_shares_by_hand():
    table = tables.timing(timed())
    whole = (1 + 2) * 78 + 60
    (row,) = pick(table, "milliseconds", part="whole").itertuples()
    assert row.value == pytest.approx(whole)
    assert (row.low, row.high) == (pytest.approx(0.7 * whole), pytest.approx(1.3 * whole))
    attention = 3 * (2 + 3 + 4 + 5 + 6)
    assert pick(table, "milliseconds", part="attention")["value"].item() == pytest.approx(attention)
    assert pick(table, "time_share", part="attention")["value"].item() == pytest.approx(attention / whole)
    assert pick(table, "time_share", part="head")["value"].item() == pytest.approx(50 / whole)
    assert pick(table, "time_share", part="other")["value"].item() == pytest.approx((3 * 12 + 6) / whole)
    assert pick(table, "milliseconds", part="router", layer=1)["value"].item() == pytest.approx(2 * (8 + 9))
    site = pick(table, "milliseconds", part="norms", layer=0, site="router_input")
    assert site["value"].item() == pytest.approx(7)
    assert pick(table, "tokens_per_second", part="whole")["value"].item() == pytest.approx(20)
    assert pick(table, "instrument_cost", part="whole")["value"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_shares_of_the_parts_sum_to_that_of_the_whole(layer):
    table = tables.timing(timed())
    parts = table["part"].unique()
    shares = {part: pick(table, "time_share", part=part, layer=layer)["value"].sum() for part in parts}
    assert sum(shares.values()) - shares["whole"] == pytest.approx(shares["whole"])
    assert layer is not None or shares["whole"] == pytest.approx(1)


def test_experts_by_hand():
    table = tables.timing(timed())
    own = {"part": "experts", "site": "expert_output", "layer": 0}
    assert pick(table, "rows", **own, expert=0)["value"].item() == 6
    assert pick(table, "rows", **own, expert=0)["null"].item() == pytest.approx(8 / 3)
    assert pick(table, "milliseconds", **own, expert=0)["value"].item() == pytest.approx(7.5)
    speed = pick(table, "microseconds_per_row", **own, expert=0)
    assert speed["value"].item() == pytest.approx(7500 / 6)
    assert speed["null"].item() == pytest.approx(10000 / 8)
    share = pick(table, "time_share", **own, expert=1)
    assert share["null"].item() == pytest.approx(10 / 294 * 2 / 8)
    idle = pick(table, "microseconds_per_row", **own, expert=2)
    assert idle["value"].isna().all()
    assert "not enough data: it was given no row" in idle["scope"].item()


def test_bytes_are_there_when_they_were_counted():
    assert pick(tables.timing(timed()), "peak_bytes", part="whole")["value"].item() == 900
    assert "peak_bytes" not in set(tables.timing(timed(memory=False))["metric"])


def test_the_table_is_as_documented():
    spec = EXPERIMENTS["timing"]
    table = tables.timing(timed())
    assert list(table.columns) == list(spec.columns)
    assert set(table["metric"]) == set(spec.metrics)
    keys = [*spec.keys, "metric"]
    assert not table.duplicated(keys).any()
    pd.testing.assert_frame_equal(table, table.sort_values(keys, kind="stable", ignore_index=True))
    without = table["low"].isna()
    assert table.loc[without, "scope"].str.contains("no interval|not enough data").all()
    assert table["scope"].notna().all()


def test_few_runs_have_no_interval():
    table = tables.timing(timed(3))
    row = pick(table, "milliseconds", part="whole")
    assert row["low"].isna().all()
    assert "fewer than 6 runs: no interval" in row["scope"].item()


# The ranks of the 95 % interval of a median in Conover, Practical Nonparametric Statistics, and in every table of it.
@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (15, 4, 12), (20, 6, 15)])
def test_the_interval_of_a_median_lies_between_the_ranks_of_the_tables(n, low, high):
    values = np.random.default_rng(n).permuted(np.arange(1, n + 1))
    assert metrics.median_interval(values) == (low, high)


def test_below_six_values_a_median_has_no_interval():
    low, high = metrics.median_interval(np.ones((2, 5)))
    assert np.isnan([low, high]).all()


def test_another_result_is_refused():
    other = Result("other", {"a": np.zeros(1)}, {"a": ("x",)})
    with pytest.raises(InputError, match="result of the kind 'timing', got one of 'other'"):
        tables.timing(other)


@pytest.mark.parametrize("metric", ["time_share", "milliseconds"])
def test_the_stacked_bars_are_the_parts_of_each_layer(metric):
    table = tables.timing(timed())
    figure = figures.timing(table, metric=metric)
    for bar in figure.data:
        for place, layer in enumerate([0, 1]):
            shown = np.asarray(bar.x)[np.asarray(bar.y) == place].sum()
            expected = pick(table, metric, part=bar.name, layer=layer)["value"].sum()
            assert shown == pytest.approx(expected)
    outside = sum(np.asarray(bar.x)[np.asarray(bar.y) == 2].sum() for bar in figure.data)
    assert outside == pytest.approx(60 / 294 if metric == "time_share" else 60)
    total = sum(np.sum(bar.x) for bar in figure.data)
    assert total == pytest.approx(1 if metric == "time_share" else 294)


@pytest.mark.parametrize("metric", ["microseconds_per_row", "milliseconds", "rows", "peak_bytes", "time_share"])
def test_the_map_of_experts_has_their_values(metric):
    table = tables.timing(timed())
    heat, _ = figures.timing_experts(table, metric=metric).data
    own = table[((table["metric"] == metric) & table["expert"].notna()).to_numpy(dtype=bool)]
    np.testing.assert_array_equal(heat.z, own["value"].to_numpy().reshape(2, 3))
    assert as_json(figures.timing_experts(table, metric=metric))["data"][1]["customdata"][4] == [1, 1]
