"""Repetition and co-activation against closed forms, published chance lines and simulation."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import metrics
from mixtral_probe.resources import data_path


def test_repetition_of_known_counts():
    repeats = np.array([[6, 2, 0], [0, 3, 1]])  # 12 pairs: 4 with the same first choice, 6 with any in common
    assert metrics.repetition_first(repeats) == pytest.approx(4 / 12)
    assert metrics.repetition_any(repeats) == pytest.approx(6 / 12)
    assert metrics.overlap(repeats) == pytest.approx((5 * 1 + 1 * 2) / 12 / 2)
    assert np.isnan(metrics.overlap(np.zeros((2, 3))))


def test_uniform_repetition_is_the_chance_line_of_the_mixtral_paper():
    found = metrics.uniform_repetition(8, 2)
    assert found == pytest.approx({"repetition_first": 0.125, "repetition_any": 13 / 28, "overlap": 0.25})
    assert f"{100 * found['repetition_any']:.2f}" == "46.43"
    assert metrics.uniform_repetition(4, 4) == {"repetition_first": 0.25, "repetition_any": 1, "overlap": 1}


def test_layer_0_of_mixtral_is_near_the_chance_of_its_own_loads():
    counts = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_domain_counts.csv").query("layer == 0")
    chance = []
    for _, rows in counts.groupby("domain"):
        first = rows.sort_values("expert")["top1_count"].to_numpy()
        load = np.stack([first, np.zeros(8)])
        found = metrics.independent_repetition(load, np.zeros((8, 8)), first.sum(), shuffled=False)
        chance.append(100 * found["repetition_first"].item())
    assert [round(min(chance), 1), round(max(chance), 1)] == [13.2, 14.1]
    published = pd.read_csv(data_path("real_mixtral") / "mixtral_paper_table5.csv")
    assert published["first_L0"].between(13.2, 15).all()
    assert (published["first_L15"] > 23).all()


def pairs_of(ids, experts):
    pairs = np.zeros((experts, experts), int)
    np.add.at(pairs, (ids[:, 0], ids[:, 1]), 1)
    return pairs + pairs.T


def test_independent_repetition_is_that_of_all_pairs_of_tokens():
    ids = np.array([[0, 1], [0, 2], [1, 0], [3, 2], [0, 1]])
    load = np.stack([np.bincount(rank, minlength=4) for rank in ids.T])
    for shuffled in (False, True):
        found = metrics.independent_repetition(load, pairs_of(ids, 4), 5, shuffled=shuffled)
        each = [
            (set(a), set(b), a[0] == b[0])
            for i, a in enumerate(ids)
            for j, b in enumerate(ids)
            if i != j or not shuffled
        ]
        assert found["repetition_first"] == pytest.approx(np.mean([same for _, _, same in each]))
        assert found["overlap"] == pytest.approx(np.mean([len(a & b) / 2 for a, b, _ in each]))
        assert found["repetition_any"] == pytest.approx(np.mean([bool(a & b) for a, b, _ in each]))
    assert "repetition_any" not in metrics.independent_repetition(np.ones((3, 4)), np.ones((4, 4)), 4, shuffled=False)


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (8, 3), (6, 4), (5, 5), (4, 1)])
def test_sets_are_numbered_in_colexicographic_order(experts, chosen):
    every = [
        (*own, *[-1] * (chosen - size))
        for size in range(chosen, 0, -1)
        for own in sorted(combinations(range(experts), size), key=lambda own: own[::-1])
    ]
    np.testing.assert_array_equal(metrics.set_index(every, experts), np.arange(len(every)))
    np.testing.assert_array_equal(metrics.set_index([own[::-1] for own in every], experts), np.arange(len(every)))
    apart = [[not {*a} & {*b} - {-1} for b in every] for a in every]
    np.testing.assert_array_equal(metrics.disjoint_sets(experts, chosen), apart)


def test_independent_repetition_of_three_experts_is_that_of_all_pairs_of_tokens():
    ids = np.array([[0, 1, 2], [3, 4, 5], [5, 3, 4], [6, 0, -1], [2, -1, -1]])
    sets = np.bincount(metrics.set_index(ids, 7), minlength=35 + 21 + 7)
    load = np.stack([np.bincount(rank[rank >= 0], minlength=7) for rank in ids.T])
    for shuffled in (False, True):
        pairs = [(a, b) for i, a in enumerate(ids) for j, b in enumerate(ids) if i != j or not shuffled]
        found = metrics.independent_repetition(load, np.zeros((7, 7)), 5, shuffled=shuffled, sets=sets)
        assert found["repetition_any"] == pytest.approx(np.mean([bool({*a} & {*b} - {-1}) for a, b in pairs]))


def test_coactivation_of_even_pairs():
    pairs = 2 * (1 - np.eye(8))  # each of the 28 sets twice
    counts, tokens = np.full(8, 14), 56
    off = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(metrics.coactivation_conditional(pairs, counts)[off], 1 / 7)
    np.testing.assert_allclose(metrics.coactivation_lift(pairs, counts, tokens)[off], 4 / 7)
    np.testing.assert_allclose(metrics.coactivation_jaccard(pairs, counts)[off], 2 / 26)
    np.testing.assert_allclose(metrics.expected_pairs(pairs), pairs, atol=1e-12)


def test_expected_pairs_has_the_loads_and_no_preference():
    weights = np.array([5.0, 1, 2, 3, 0.5, 0])
    law = np.outer(weights, weights)
    np.fill_diagonal(law, 0)
    np.testing.assert_allclose(metrics.expected_pairs(law), law, atol=1e-9)
    liked = law.copy()
    liked[1, 2] = liked[2, 1] = 20
    expected = metrics.expected_pairs(liked)
    np.testing.assert_allclose(expected.sum(-1), liked.sum(-1), rtol=1e-12)
    assert expected[1, 2] < 20
    odds = expected[0, 1] * expected[2, 3] / (expected[0, 3] * expected[1, 2])
    assert odds == pytest.approx(1)
    assert (metrics.expected_pairs(np.zeros((3, 3))) == 0).all()


@pytest.mark.parametrize("between_others", [0, 1])
def test_expected_pairs_of_an_expert_that_is_in_nearly_every_pair(between_others):
    star = np.zeros((4, 4))
    star[0, 1:], star[1, 2] = [100, 50, 50], between_others
    star += star.T
    expected = metrics.expected_pairs(np.stack([star, star[::-1, ::-1]]))
    np.testing.assert_allclose(expected.sum(-1), [star.sum(-1), star.sum(-1)[::-1]], rtol=1e-12)
    np.testing.assert_allclose(expected[1], expected[0, ::-1, ::-1], rtol=1e-12)
    if not between_others:
        np.testing.assert_allclose(expected[0], star, atol=1e-12)
