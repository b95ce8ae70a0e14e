"""Figures of attention hold the values of their tables, stay small, and name links by click."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import figures, tables
from mixtral_probe.errors import InputError
from tests.support.attention_traces import attentive_trace
from tests.support.figures import as_json, drawn
from tests.support.routing import pick


@pytest.fixture(scope="module")
def trace():
    return attentive_trace()


@pytest.fixture(scope="module")
def long():
    return attentive_trace(layers=1, heads=2, documents=1, length=2048)


def size(figure) -> int:
    return len(figure.to_json(engine="json"))


def test_a_map_holds_every_weight_and_a_marker_for_each(trace):
    table = tables.attention_weights(trace, layer=1, head=0)
    figure = figures.attention_weights(table, query=7, position=2)
    heat, markers = figure.data
    for row in table.itertuples():
        assert heat.z[row.query, row.position] == np.float32(row.value)
    assert np.isnan(heat.z[np.triu_indices(12, 1)]).all()
    sent = as_json(figure)["data"][1]
    assert sent["customdata"] == [[row.query, row.position] for row in table.itertuples()]
    assert markers.x.tolist() == table["position"].tolist()
    assert markers.y.tolist() == table["query"].tolist()
    row, column = figure.layout.shapes
    assert (row.y0, row.y1, row.xref) == (6.5, 7.5, "x domain")
    assert (column.x0, column.x1, column.yref) == (1.5, 2.5, "y domain")
    assert figure.layout.xaxis.ticktext[3] == "␣w3"


def test_a_part_of_a_map_stands_at_its_positions(trace):
    figure = figures.attention_weights(tables.attention_weights(trace, layer=0, head=1, queries=(6, 9), keys=(2, 5)))
    assert figure.data[0].x.tolist() == [2, 3, 4]
    assert figure.data[0].y.tolist() == [6, 7, 8]
    assert figure.data[0].z.shape == (3, 3)


def test_a_map_of_2048_tokens_is_pooled_small_and_its_markers_name_the_strongest(long):
    table = tables.attention_weights(long, layer=0, head=1, step=4)
    figure = figures.attention_weights(table, step=4)
    heat, markers = figure.data
    assert heat.z.dtype == np.uint8
    assert heat.z.shape == (512, 512)
    np.testing.assert_allclose((heat.z[511, 0] / 255) ** 2, table[table["query"] >= 2044]["value"].iloc[0], atol=8e-3)
    assert len(markers.x) <= 8000
    assert size(figure) < 2e6
    # The link at the corner of the map is the strongest of its square.
    weights = long.attention(0, 0, 1)
    side = int(markers.x[1] - markers.x[0]) if markers.y[0] == markers.y[1] else int(markers.y[1] - markers.y[0])
    query, key = markers.customdata[0]
    assert weights[query, key] == weights[:side, :side].max()
    with pytest.raises(InputError, match="at most 512 squares a side, got 1024; make the table with a larger"):
        figures.attention_weights(tables.attention_weights(long, layer=0, head=1, step=2), step=2)


def test_windows_of_256_and_512_positions_stay_below_two_megabytes(long):
    for side in (256, 512):
        part = tables.attention_weights(long, layer=0, head=0, queries=(1000, 1000 + side), keys=(800, 800 + side))
        figure = figures.attention_weights(part)
        assert figure.data[0].z.shape == (side, side)
        assert size(figure) < 2e6


def test_heads_side_by_side(trace):
    table = pd.concat([tables.attention_weights(trace, layer=1, head=head, step=2) for head in range(3)])
    figure = figures.attention_heads(table, step=2)
    assert [heat.z.shape for heat in figure.data] == [(6, 6)] * 3
    own = pick(table, head=2)
    np.testing.assert_array_equal(
        figure.data[2].z[own["query"].to_numpy(int) // 2, own["position"].to_numpy(int) // 2],
        np.rint(255 * np.sqrt(own["value"].to_numpy(float))),
    )
    assert figure.layout.annotations[2].text == "head 2"
    with pytest.raises(InputError, match="a map must be of one head, got 3; use attention_heads"):
        figures.attention_weights(table, step=2)


@pytest.mark.parametrize("rollout", [False, True])
def test_a_query_has_a_bar_for_every_position(trace, rollout):
    if rollout:
        table = tables.attention_rollout(trace, query=9)
    else:
        table = tables.attention_weights(trace, layer=1, head=2, queries=(9, 10))
    figure = figures.attention_query(table, query=9)
    bars, even = figure.data
    np.testing.assert_array_equal(bars.y, drawn(table))
    np.testing.assert_array_equal(even.y, table["null"])
    colors = figures.expert_colors(4)
    assert list(bars.marker.color) == [colors[trace.expert_ids[1, i, 0]] for i in range(10)]


def test_attended_experts_are_bars_with_their_null(trace):
    table = tables.attended_experts(trace, layer=0, query=5)
    bars, even = figures.attended_experts(table).data
    np.testing.assert_array_equal(bars.y, drawn(table))
    np.testing.assert_array_equal(even.y, table["null"])


def test_attention_and_routing_are_cells_of_heads_and_experts(trace):
    table = tables.attention_routing(trace)
    figure = figures.attention_routing(table, metric="distance_effect", layer=1)
    own = pick(table, layer=1, metric="distance_effect")
    np.testing.assert_array_equal(figure.data[0].z, drawn(own).reshape(3, 4))
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax
    assert as_json(figure)["data"][1]["customdata"][4] == [1, 1]


def test_a_picture_has_a_dot_for_every_weight():
    picture = figures.attention_picture(np.array([[0, 1], [0.25, 0.25]]))
    assert picture.shape == (2, 2, 3)
    assert picture.dtype == np.uint8
    low, high = (figures.scales(False)["sequential"][at][1] for at in (0, -1))
    assert tuple(picture[0, 0]) == tuple(int(low[i : i + 2], 16) for i in (1, 3, 5))
    assert tuple(picture[0, 1]) == tuple(int(high[i : i + 2], 16) for i in (1, 3, 5))
    assert (picture[1, 0] == picture[1, 1]).all()


def test_tokens_never_become_markup():
    pieces = ["<b>", "&amp;", "\ud800", "<img src=x onerror=a>", "\n", "x" * 9000]
    table = tables.attention_weights(attentive_trace(documents=1, length=6, pieces=pieces), layer=0, head=0)
    for figure in (figures.attention_weights(table), figures.attention_query(table[table["query"] == 5], query=5)):
        text = figure.to_json(engine="json")
        assert "“<b>”" not in text
        assert "“&lt;b&gt;”" in text.encode().decode("unicode_escape")
        assert "<img" not in text
        assert size(figure) < 50_000
