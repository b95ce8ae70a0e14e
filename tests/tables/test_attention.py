"""Tables of single tokens' attention and of how attention goes with the routing, against loops over the maps."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import tables
from mixtral_probe.errors import InputError
from mixtral_probe.trace import Trace
from tests.support.attention_traces import attentive_trace, maps_of
from tests.support.routing import pick, random_trace


@pytest.fixture(scope="module")
def trace():
    return attentive_trace(documents=6)


def half(weights):
    """As a trace keeps them."""
    return weights.astype(np.float16).astype(np.float64)


def test_every_link_of_a_head_is_a_row(trace):
    table = tables.attention_weights(trace, layer=1, head=0, document=2)
    weights = half(maps_of(2, 0, 1, 3, 12)[0])
    assert len(table) == 12 * 13 // 2
    for row in table.itertuples():
        assert row.value == weights[row.query, row.position]
        assert row.null == 1 / (row.query + 1)
        assert row.token == f" w{24 + row.position}"
        assert row.experts == " ".join(map(str, trace.expert_ids[1, 24 + row.position]))
    assert set(table["head"]) == {0}
    assert table["scope"].str.contains("no interval").all()


def test_without_a_head_it_is_the_mean(trace):
    table = tables.attention_weights(trace, layer=0, queries=(5, 6))
    np.testing.assert_allclose(table["value"], half(maps_of(0, 0, 0, 3, 12)).mean(0)[5, :6], rtol=1e-6)
    assert table["head"].isna().all()
    assert table["value"].sum() == pytest.approx(1, abs=2e-3)


def test_a_part_of_the_map(trace):
    table = tables.attention_weights(trace, layer=1, head=1, queries=(4, 7), keys=(5, 9))
    assert list(zip(table["query"], table["position"], strict=True)) == [(5, 5), (6, 5), (6, 6)]


@pytest.mark.parametrize(("step", "first"), [(2, 0), (5, 0), (12, 0), (50, 0), (3, 4)])
def test_of_each_square_the_strongest_link_is_kept(trace, step, first):
    table = tables.attention_weights(trace, layer=1, head=0, step=step, queries=(first, 12), keys=(first, 12))
    weights = half(maps_of(0, 0, 1, 3, 12)[0])
    squares = {}
    for query in range(first, 12):
        for key in range(first, query + 1):
            square = squares.setdefault((query // step, key // step), [])
            square.append((weights[query, key], query, key))
    expected = sorted((query, key, value) for value, query, key in map(max, squares.values()))
    assert list(zip(table["query"], table["position"], table["value"], strict=True)) == expected


def test_rollout_of_two_layers_is_the_product(trace):
    table = tables.attention_rollout(trace, query=7, document=1)
    first, second = (half(maps_of(1, 0, layer, 3, 12)).mean(0) for layer in (0, 1))
    mixed = [(a / a.sum(-1, keepdims=True) + np.eye(12)) / 2 for a in (first, second)]
    np.testing.assert_allclose(table["value"], (mixed[1] @ mixed[0])[7, :8], atol=1e-3)
    assert table["value"].sum() == pytest.approx(1)
    assert table["null"].sum() == pytest.approx(1)
    assert table["layer"].eq(1).all()
    one = tables.attention_rollout(trace, query=7, layer=0, document=1)
    np.testing.assert_allclose(one["value"], mixed[0][7, :8], atol=1e-3)
    np.testing.assert_allclose(one["null"], 0.5 / 8 + 0.5 * np.eye(8)[7])


def test_a_rollout_needs_all_layers():
    trace = attentive_trace(recorded=(1,))
    with pytest.raises(InputError, match="needs the attention of every layer up to it, got layers 1; record them all"):
        tables.attention_rollout(trace, query=3)


def test_attended_experts_by_hand(trace):
    table = tables.attended_experts(trace, layer=1, query=4, head=2)
    weights, first = half(maps_of(0, 0, 1, 3, 12)[2])[4], trace.expert_ids[1, :5, 0]
    for expert in range(4):
        row = pick(table, expert=expert).iloc[0]
        assert row["value"] == pytest.approx(weights[:5][first == expert].sum() / weights[:5].sum())
        assert row["null"] == pytest.approx((first == expert).mean())
    assert set(table["n"]) == {5}


def test_what_is_not_there_is_said(trace):
    with pytest.raises(InputError, match="layer must be one of 0, 1, got 9"):
        tables.attention_weights(trace, layer=9)
    with pytest.raises(InputError, match=r"positions must be in 0–11 \(the window has 12\), got 3 to 12"):
        tables.attention_weights(trace, layer=0, queries=(3, 13))
    with pytest.raises(InputError, match=r"chunk must be a window of document 1 \(0–0\), got 4"):
        tables.attention_rollout(trace, query=0, document=1, chunk=4)
    with pytest.raises(InputError, match="recorded maps of the attention, got sums alone"):
        tables.attention_weights(attentive_trace(maps=False), layer=0)
    with pytest.raises(InputError, match="needs recorded attention, got none"):
        tables.attended_experts(random_trace(), layer=0, query=0)


def loops(trace: Trace, layer: int, head: int, expert: int, formula) -> tuple[float, int, float]:
    """Difference, n and effect by going through the queries one by one; positions 1, 2-3, 4-7, 8-15."""
    values, buckets, chose = [], [], []
    for document in range(trace.num_documents):
        for position in range(1, 12):  # position 0 is special
            row = maps_of(document, 0, layer, 3, 12)[head].astype(np.float16).astype(float)[position, : position + 1]
            values.append(formula(row, position))
            buckets.append(int(np.log2(position)))
            chose.append(expert in trace.expert_ids[layer, document * 12 + position])
    values, buckets, chose = map(np.array, (values, buckets, chose))
    mean = {bucket: values[buckets == bucket].mean() for bucket in set(buckets)}
    rest = values - np.array([mean[bucket] for bucket in buckets])
    return rest[chose].mean(), int(chose.sum()), rest[chose].mean() / np.sqrt((rest**2).mean())


FORMULAS = {
    "entropy_bits": lambda row, position: -(row * np.log2(row)).sum(),
    "distance": lambda row, position: (row * (position - np.arange(position + 1))).sum(),
    "sink_share": lambda row, position: row[0],
}


@pytest.mark.parametrize("quantity", FORMULAS)
def test_routing_difference_is_that_of_a_loop(trace, quantity):
    table = tables.attention_routing(trace)
    for layer, head, expert in [(0, 0, 0), (1, 2, 3), (1, 1, 1)]:
        difference, n, effect = loops(trace, layer, head, expert, FORMULAS[quantity])
        row = pick(table, layer=layer, head=head, expert=expert, metric=f"{quantity}_difference").iloc[0]
        assert row["value"] == pytest.approx(difference, abs=1e-6)
        assert row["n"] == n
        assert row["low"] < row["value"] < row["high"]
        scaled = pick(table, layer=layer, head=head, expert=expert, metric=f"{quantity}_effect").iloc[0]
        assert scaled["value"] == pytest.approx(effect, abs=1e-4)
    assert (table["null"] == 0).all()


def test_windows_of_a_document_are_read_apart():
    whole, cut = attentive_trace(length=12), attentive_trace(length=12, window=6)
    assert len(tables.attention_weights(cut, layer=0, head=0, chunk=1)) == 21
    np.testing.assert_allclose(
        tables.attention_weights(cut, layer=0, head=0, chunk=1)["value"],
        half(maps_of(0, 1, 0, 3, 6)[0])[np.tri(6, dtype=bool)],
    )
    assert not tables.attention_routing(whole)["value"].equals(tables.attention_routing(cut)["value"])


def test_one_document_has_no_interval_and_no_maps_are_said():
    table = tables.attention_routing(attentive_trace(documents=1))
    assert table["low"].isna().all()
    assert table["scope"].str.contains("no interval").all()
    assert (
        tables.attention_routing(attentive_trace(maps=False))
        .attrs["note"]
        .endswith("no maps of the attention were recorded")
    )
    assert tables.attention_routing(random_trace()).empty


def test_the_table_keeps_the_contract(trace):
    spec = tables.TABLES["attention_routing"]
    table = spec.function(trace)
    assert list(table.columns) == list(spec.columns)
    assert set(table["metric"]) == set(spec.metrics)
    keys = [*spec.keys, "metric"]
    assert not table.duplicated(keys).any()
    pd.testing.assert_frame_equal(table, table.sort_values(keys, kind="stable", ignore_index=True))
    gone = table["low"].isna()
    assert table.loc[gone, "scope"].str.contains("no interval|not enough data").all()
