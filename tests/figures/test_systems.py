"""Figures of paths, caches, placements and capacities hold the values of their tables."""

import numpy as np
import pytest

from mixtral_probe import figures, tables
from mixtral_probe.errors import InputError
from mixtral_probe.figures.systems.placement_simulation import PLACEMENT
from mixtral_probe.stats import RoutingStats
from tests.support.figures import drawn
from tests.support.routing import pick, random_trace


@pytest.fixture(scope="module")
def trace():
    return random_trace(1, layers=3, tokens=400)


def named(figure, name):
    return next(part for part in figure.data if part.name == name)


def every(figure, name):
    return [part for part in figure.data if part.name == name]


def test_paths_are_bars_with_their_null(trace):
    table = tables.paths(trace)
    own = pick(table, group="all", metric="path_share")
    bars, marks = figures.paths(table).data
    np.testing.assert_array_equal(bars.x, drawn(own))
    np.testing.assert_array_equal(marks.x, own["null"])
    assert list(figures.paths(table).layout.yaxis.ticktext) == list(own["path"])


@pytest.mark.parametrize("layer", [None, 1])
def test_a_cache_has_a_panel_for_every_policy_with_its_own_nulls(trace, layer):
    table = tables.cache_simulation(trace, by="domain")
    figure = figures.cache_simulation(table, layer=layer, group="law")
    own = pick(table, layer=layer, group="law", metric="hit_rate")
    names = {"belady": "Belady", "lfu": "LFU", "lru": "LRU", "static": "static: the busiest"}
    assert set(own["policy"]) == set(names)
    assert [note.text for note in figure.layout.annotations] == [*names.values()]
    nulls = zip(every(figure, "uniform routing"), every(figure, "random order"), strict=True)
    for (policy, name), (uniform, exchanged) in zip(names.items(), nulls, strict=True):
        of_policy, values = pick(own, policy=policy), named(figure, name)
        np.testing.assert_array_equal(values.y, drawn(of_policy))
        np.testing.assert_array_equal(uniform.y, of_policy["null"])
        np.testing.assert_array_equal(exchanged.y, of_policy["null_same_load"])
        assert (uniform.line.dash, exchanged.line.dash) == ("dot", "dash")
        assert uniform.xaxis == exchanged.xaxis == values.xaxis
        assert "<br>random order: " in values.hovertext[0]
    with pytest.raises(InputError, match="got 9"):
        figures.cache_simulation(table, layer=9)


def test_devices_have_a_panel_for_every_placement(trace):
    table = tables.placement_simulation(RoutingStats.from_trace(trace))
    figure = figures.placement_simulation(table, layer=2)
    nulls = zip(every(figure, "uniform routing"), every(figure, "random order"), strict=True)
    for (metric, name), (uniform, exchanged) in zip(PLACEMENT.items(), nulls, strict=True):
        own = pick(table, layer=2, metric=metric, replicas=8)
        np.testing.assert_array_equal(named(figure, name).y, drawn(own))
        np.testing.assert_array_equal(named(figure, name).x, own["ranks"])
        np.testing.assert_array_equal(uniform.y, own["null"])
        np.testing.assert_array_equal(exchanged.y, own["null_same_load"])


def test_dropped_choices_by_factor(trace):
    table = tables.capacity_simulation(trace)
    null, exchanged, line = figures.capacity_simulation(table).data
    own = pick(table, layer=None, group="all", bin=None)
    np.testing.assert_array_equal(line.y, drawn(own))
    np.testing.assert_array_equal(null.y, own["null"])
    np.testing.assert_array_equal(exchanged.y, own["null_same_load"])
    np.testing.assert_array_equal(line.x, [1, 1.25, 1.5, 2])


@pytest.mark.parametrize("name", ["cache_simulation", "capacity_simulation"])
def test_a_table_of_an_earlier_version_has_one_null(trace, name):
    table = getattr(tables, name)(trace).drop(columns="null_same_load")
    figure = getattr(figures, name)(table)
    assert every(figure, "uniform routing")
    assert not every(figure, "random order")
