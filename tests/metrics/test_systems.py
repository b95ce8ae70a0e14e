"""Caches, placements, capacities and paths: closed forms, published examples, and slow programs of another kind."""

import itertools
import math
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from mixtral_probe import metrics

ALL = (2, 3, 4, 6, 8)


def uniform(windows, steps, seed=0, experts=8, chosen=2):
    return np.random.default_rng(seed).random((windows, steps, experts)).argsort(-1)[..., :chosen]


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_uniform_routing_hits_as_often_as_the_formula_says(policy):
    ids = uniform(60, 300)
    before, after = metrics.cache_hits(ids, 8, ALL, policy)
    for place, capacity in enumerate(ALL):
        chance = metrics.uniform_cache_hit_rate([300] * 60, 8, 2, capacity)
        np.testing.assert_allclose(before[:, place].sum() / ids.size, chance[0], atol=8e-3)
        np.testing.assert_allclose(after[:, place].sum() / ids.size, chance[1], atol=8e-3)
        # Long windows forget that the cache was empty: C/N, and (C/N + (C - 1)/(N - 1)) / 2.
        long = metrics.uniform_cache_hit_rate([200_000], 8, 2, capacity)
        assert long[0] == pytest.approx(capacity / 8, abs=1e-4)
        assert long[1] == pytest.approx((capacity / 8 + (capacity - 1) / 7) / 2, abs=1e-4)


def test_the_formula_of_short_windows_by_hand():
    assert metrics.uniform_cache_hit_rate([1], 8, 2, 4) == (0, 0)
    # The second token finds the two experts of the first: each of its choices is one of them with 2/8.
    before, after = metrics.uniform_cache_hit_rate([2], 8, 2, 4)
    assert before == pytest.approx(0.25 / 2)
    assert after == pytest.approx(0.25 / 2)
    assert np.isnan(metrics.uniform_cache_hit_rate([0], 8, 2, 4)).all()


def test_cyclic_access_never_hits_and_constant_access_always_but_once():
    cyclic = np.arange(60).reshape(1, 60, 1) % 5
    before, after = metrics.cache_hits(cyclic, 5, (4,), "lru")
    assert before.item() == after.item() == 0
    assert metrics.cache_hits(cyclic, 5, (5,), "lru")[0].item() == 55
    # Belady keeps 3 of a cycle of 5 in a cache of 4 ... at best (C - 1)/(N - 1) in the long run.
    assert metrics.cache_hits(np.arange(4000).reshape(1, -1, 1) % 5, 5, (4,), "belady")[0].item() / 4000 == (
        pytest.approx(3 / 4, abs=2e-3)
    )
    for policy in metrics.POLICIES:
        hits = metrics.cache_hits(np.zeros((1, 50, 1), int), 5, (1,), policy)[0].item()
        assert hits == (50 if policy == "static" else 49)


def slow_lru(ids, capacity):
    """Hits by an ordered dictionary, token by token."""
    held, before, after = OrderedDict(), 0, 0
    for token in ids:
        before += sum(int(expert) in held for expert in token)
        for expert in map(int, token):
            after += expert in held
            held.pop(expert, None)
            held[expert] = True
            if len(held) > capacity:
                held.popitem(last=False)
    return before, after


def slow_lfu(ids, capacity):
    held, count, last, after, time = set(), {}, {}, 0, 0
    for token in ids:
        done = set()
        for expert in map(int, token):
            time += 1
            after += expert in held
            count[expert], last[expert] = count.get(expert, 0) + 1, time
            done.add(expert)
            if expert not in held and len(held) == capacity:
                held.remove(min(held - done, key=lambda e: (count[e], last[e])))
            held.add(expert)
    return after


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 40))
def test_policies_do_as_slow_programs_do(seed, chosen, steps):
    rng = np.random.default_rng(seed)
    ids = (rng.random((3, steps, 6)) * rng.random(6)).argsort(-1)[..., :chosen]
    ids[1, steps // 2 :] = -1  # a shorter window
    ids[2, ::3, 1:] = -1  # tokens with fewer choices
    capacities = tuple(range(chosen, 7))
    lru, lfu = (metrics.cache_hits(ids, 6, capacities, policy) for policy in ("lru", "lfu"))
    for window in range(3):
        own = ids[window][ids[window, :, 0] >= 0]
        own = [token[token >= 0] for token in own]
        for place, capacity in enumerate(capacities):
            assert (lru[0][window, place], lru[1][window, place]) == slow_lru(own, capacity)
            assert lfu[1][window, place] == slow_lfu(own, capacity)


def fewest_misses(sequence, capacity):
    """By trying every eviction."""
    states = {frozenset(): 0}
    for expert in sequence:
        reached = {}
        for held, misses in states.items():
            if expert in held:
                options = [(held, misses)]
            elif len(held) < capacity:
                options = [(held | {expert}, misses + 1)]
            else:
                options = [((held - {out}) | {expert}, misses + 1) for out in held]
            for state, cost in options:
                reached[state] = min(cost, reached.get(state, math.inf))
        states = reached
    return min(states.values())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=14), st.integers(1, 4))
def test_belady_is_the_best_there_is(sequence, capacity):
    ids = np.array(sequence).reshape(1, -1, 1)
    hits = metrics.cache_hits(ids, 5, (capacity,), "belady")[1].item()
    assert hits == len(sequence) - fewest_misses(sequence, capacity)


def test_the_static_cache_holds_the_most_loaded():
    ids = np.array([[[0, 1], [0, 2], [0, 1]], [[3, 0], [-1, -1], [-1, -1]]])
    before, after = metrics.cache_hits(ids, 4, (2, 3, 4), "static")
    assert before.tolist() == after.tolist() == [[5, 6, 6], [1, 1, 2]]


def test_simulated_chance_agrees_with_the_static_share():
    before, _ = metrics.simulated_cache_hit_rate(200, 8, 2, 4, "static")
    assert before == pytest.approx(0.5, abs=0.01)


README_LOADS = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
README_PLACEMENT = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


def test_the_example_of_eplb():
    placement = metrics.eplb_placement(README_LOADS, replicas=16, groups=4, nodes=2, ranks=8)
    assert placement.tolist() == README_PLACEMENT


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 1000), min_size=8, max_size=8), st.sampled_from([(8, 2), (8, 4), (12, 4), (16, 8)]))
def test_a_placement_has_every_expert_and_is_no_worse_than_twice_the_best(load, size):
    replicas, ranks = size
    placement = metrics.eplb_placement([load], replicas=replicas, ranks=ranks)
    assert set(placement[0].tolist()) == set(range(8))
    loads = metrics.rank_load([load], placement, ranks)
    assert loads.sum() == pytest.approx(sum(load))
    if replicas == 8 and ranks == 2:
        best = min(max(sum(load[i] for i in half), sum(load) - sum(load[i] for i in half))
                   for half in itertools.combinations(range(8), 4))  # fmt: skip
        assert loads.max() <= 4 / 3 * best + 1e-9  # greedy, heaviest first (Graham 1969)


def test_rank_loads_by_hand():
    load = [[8, 4, 2, 2]]
    np.testing.assert_array_equal(metrics.rank_load(load, [[0, 1, 2, 3]], 2), [[12, 4]])
    np.testing.assert_array_equal(metrics.rank_load(load, [[0, 1, 2, 0, 3, 3]], 2), [[10, 6]])
    assert metrics.rank_imbalance([12, 4]).item() == 1.5
    assert np.isnan(metrics.rank_imbalance([0, 0]))


def test_capacity_and_drops_by_hand():
    assert metrics.expert_capacity(10, 4, 2, 1.0) == 5
    assert metrics.expert_capacity(40, 8, 2, 1.1) == 11
    ids = np.array([[0, 1], [0, 2], [0, 1], [1, 0], [-1, -1]])
    dropped = metrics.choice_places(ids, 4) >= 2
    assert dropped.tolist() == [[False, False], [False, False], [True, False], [True, True], [False, False]]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 2.0])
def test_drops_are_what_exceeds_the_capacity_and_as_many_as_expected_by_chance(factor):
    ids = uniform(400, 60)
    capacity = metrics.expert_capacity(60, 8, 2, factor)
    dropped = metrics.choice_places(ids, 8) >= capacity
    loads = (ids[..., None] == np.arange(8)).sum((1, 2))
    np.testing.assert_array_equal(dropped.sum((1, 2)), np.maximum(0, loads - capacity).sum(-1))
    expected = metrics.expected_drops(60, 8, 2, factor)
    np.testing.assert_allclose(dropped.mean((0, 2)), expected, atol=0.06)
    assert dropped.mean() == pytest.approx(expected.mean(), abs=6e-3)


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_drops_of_exchanged_tokens_are_the_mean_over_all_orders(capacity):
    """Of windows of 4 tokens, and of 6, over the 720 orders of 6 tokens, one of which chose a single expert."""
    ids = np.array([[0, 1], [0, 2], [0, -1], [1, 3], [0, 1], [2, 1]])
    counts = (ids[..., None] == np.arange(5)).sum((0, 1))
    for length in (4, 6):
        orders = np.array([ids[list(order)][:length] for order in itertools.permutations(range(6))])
        dropped = (metrics.choice_places(orders, 5) >= capacity) & (orders >= 0)
        expected = metrics.exchanged_drops(counts, 6, length, capacity)
        np.testing.assert_allclose(expected, dropped.sum(-1).mean(0), atol=1e-12)
    # All tokens in one window: the order decides which choices are dropped, not how many.
    assert expected.sum() == pytest.approx(np.maximum(counts - capacity, 0).sum())


def test_drops_of_exchanged_tokens_are_hypergeometric():
    counts, tokens, place = np.array([[300, 500, 40, 0, 160], [200] * 5]), 1000, np.arange(64)
    expected = metrics.exchanged_drops(counts, tokens, 64, 13)
    load = hypergeom(tokens - 1, counts[..., None] - 1, place)
    plain = (counts[..., None] / tokens * np.where(counts[..., None] > 0, load.sf(12), 0)).sum(1)
    np.testing.assert_allclose(expected, plain, rtol=1e-9, atol=1e-12)
    # Of many tokens almost binomial.
    many = metrics.exchanged_drops(np.full(8, 2_500_000), 10_000_000, 60, 15)
    np.testing.assert_allclose(many / 2, metrics.expected_drops(60, 8, 2, 1.0), atol=1e-5)


def test_windows_are_drawn_from_all_tokens():
    windows = metrics.exchanged_windows([400] * 10)
    assert [len(window) for window in windows] == [400] * 20
    assert all(len(np.unique(window)) == 400 for window in windows)
    drawn = np.bincount(np.concatenate(windows), minlength=4000)
    assert len(drawn) == 4000
    # Each token is drawn 20 times of 10 on average: 2, with a variance of 20 * 0.1 * 0.9.
    assert drawn.mean() == 2
    assert drawn.var() == pytest.approx(1.8, rel=0.1)
    assert len(metrics.exchanged_windows([1, 1, 1])) == 4096  # short windows, but as many tokens


def test_counts_of_exchanged_tokens_have_the_moments_of_drawing_without_replacement():
    rng = np.random.default_rng(0)
    ids = (rng.random((60, 5)) * [1, 2, 2, 3, 4]).argsort(-1)[:, :2]
    chose = (ids[..., None] == np.arange(5)).any(1).astype(float)
    drawn = np.array([chose[rng.permutation(60)[:25]].sum(0) for _ in range(20_000)])
    draws = [metrics.exchanged_counts(chose.sum(0), chose.T @ chose, 60, 25, seed) for seed in range(500)]
    counts = np.concatenate(draws)
    assert draws[0].shape == (20, 5)
    np.testing.assert_allclose(counts.mean(0), drawn.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(counts.T), np.cov(drawn.T), atol=0.2)
    # Two to a token, but where the count of a rare expert is clipped.
    assert np.isclose(counts.sum(-1), 50).mean() > 0.98
    # All tokens, and none.
    np.testing.assert_allclose(metrics.exchanged_counts(chose.sum(0), chose.T @ chose, 60, 60)[3], chose.sum(0))
    np.testing.assert_array_equal(metrics.exchanged_counts(chose.sum(0), chose.T @ chose, 60, 0), 0)
    np.testing.assert_array_equal(metrics.exchanged_counts(np.zeros(5), np.zeros((5, 5)), 0, 0), 0)


def test_drawn_windows_stand_for_as_many_tokens_each():
    lengths = np.array([len(window) for window in metrics.exchanged_windows([50] * 30 + [500] * 3 + [2500])])
    # 1,500 tokens are in windows of 50, as many in those of 500, 2,500 in the last.
    shares = [(lengths == length).mean() for length in (50, 500, 2500)]
    np.testing.assert_allclose(shares, [1500 / 5500, 1500 / 5500, 2500 / 5500], atol=0.05)


def test_paths_are_counted():
    first = np.array([[0, 1, 0, 0, 1], [2, 2, 2, 1, 2], [0, 0, 0, 0, 0]])
    paths, counts, place = metrics.path_counts(first)
    assert paths.tolist() == [[0, 2, 0], [1, 2, 0], [0, 1, 0]]
    assert counts.tolist() == [2, 2, 1]
    np.testing.assert_array_equal(paths[place].T, first)
    deep = np.random.default_rng(0).integers(0, 64, (64, 50))
    assert len(metrics.path_counts(deep)[1]) == 50  # 64 to the power of 64 fits no integer


def test_entropy_in_bits():
    assert metrics.entropy_bits([1, 1, 2, 0]).item() == 1.5
    assert np.isnan(metrics.entropy_bits([0, 0]))
