"""Figures of paths, caches, placements and capacities hold the values of their tables."""

import numpy as np
import pytest

from mixtral_probe import figures, tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats
from tests.support.figures import drawn
from tests.support.routing import pick, random_trace


@pytest.fixture(scope="module")
def trace():
    return random_trace(1, layers=3, tokens=400)


def named(figure, name):
    return next(part for part in figure.data if part.name == name)


def test_paths_are_bars_with_their_null(trace):
    table = tables.paths(trace)
    own = pick(table, group="all", metric="path_share")
    bars, marks = figures.paths(table).data
    np.testing.assert_array_equal(bars.x, drawn(own))
    np.testing.assert_array_equal(marks.x, own["null"])
    assert list(figures.paths(table).layout.yaxis.ticktext) == list(own["path"])


@pytest.mark.parametrize("layer", [None, 1])
def test_a_cache_has_a_line_for_every_policy(trace, layer):
    table = tables.cache_simulation(trace, by="domain")
    figure = figures.cache_simulation(table, layer=layer, group="law")
    own = pick(table, layer=layer, group="law", metric="hit_rate")
    names = {"belady": "Belady", "lfu": "LFU", "lru": "LRU", "static": "static: the busiest"}
    assert set(own["policy"]) == set(names)
    for policy, name in names.items():
        np.testing.assert_array_equal(named(figure, name).y, drawn(pick(own, policy=policy)))
    np.testing.assert_array_equal(figure.data[0].y, pick(own, policy="lru")["null"])
    with pytest.raises(InputError, match="got 9"):
        figures.cache_simulation(table, layer=9)


def test_devices_have_a_line_for_every_placement(trace):
    table = tables.placement_simulation(RoutingStats.from_trace(trace))
    figure = figures.placement_simulation(table, layer=2)
    for metric, name in (("rank_imbalance", "in their order"), ("rank_imbalance_eplb", "by EPLB")):
        own = pick(table, layer=2, metric=metric, replicas=8)
        np.testing.assert_array_equal(named(figure, name).y, drawn(own))
        np.testing.assert_array_equal(named(figure, name).x, own["ranks"])


def test_dropped_choices_by_factor(trace):
    table = tables.capacity_simulation(trace)
    null, line = figures.capacity_simulation(table).data
    own = pick(table, layer=None, group="all", bin=None)
    np.testing.assert_array_equal(line.y, drawn(own))
    np.testing.assert_array_equal(null.y, own["null"])
    np.testing.assert_array_equal(line.x, [1, 1.25, 1.5, 2])
