"""Permutation tests: the number of arrangements, and p-values pooled over what is tested together."""

import numpy as np
import pytest
from scipy.stats import norm

from mixtral_probe import metrics

THREE = [3.0, 1.0], [[1.0, 0.0], [2.0, 4.0], [0.0, 3.0]]


def test_arrangements_are_the_multinomial_number_up_to_a_million() -> None:
    assert metrics.distinct_arrangements([2, 2]) == 6
    assert metrics.distinct_arrangements([1, 2, 3]) == 60
    assert metrics.distinct_arrangements([1, 0, 2, 3]) == 60
    assert metrics.distinct_arrangements([5]) == 1
    assert metrics.distinct_arrangements([40, 40]) == 1_000_000


def test_labels_that_can_be_exchanged_as_a_whole_are_not_distinct() -> None:
    assert metrics.distinct_arrangements([2, 2], interchangeable=True) == 3  # 12|34, 13|24, 14|23
    assert metrics.distinct_arrangements([1] * 8, interchangeable=True) == 1
    assert metrics.distinct_arrangements([2, 1, 1], interchangeable=True) == 6  # which two are together


def test_shuffled_labels_are_the_same_labels_in_equally_likely_orders() -> None:
    drawn = metrics.shuffled_labels([0, 0, 1], 3000)
    assert (np.sort(drawn, axis=1) == [0, 0, 1]).all()
    np.testing.assert_allclose(drawn.mean(0), 1 / 3, atol=4 * np.sqrt(2 / 9 / 3000))
    np.testing.assert_array_equal(drawn, metrics.shuffled_labels([0, 0, 1], 3000))


def test_p_values_count_the_standardised_draws_of_all_values() -> None:
    # Rows 3, 1, 2, 0 (mean 1.5, sd sqrt(5)/2) and 1, 0, 4, 3 (mean 2, sd sqrt(10)/2). Standardised:
    # 1.342, then draws -0.447, 0.447, -1.342; and -0.632, then draws -1.265, 1.265, 0.632.
    np.testing.assert_allclose(metrics.studentised_p_values(*THREE), [1 / 7, 5 / 7])
    np.testing.assert_allclose(metrics.studentised_p_values(*THREE, joint=True), [1 / 8, 6 / 8])


def test_two_sided_p_values_compare_distances_from_the_mean() -> None:
    # 1.342 and 0.632 of the draws' 0.447, 0.447, 1.342, 1.265, 1.265, 0.632: one is as far, and four.
    np.testing.assert_allclose(metrics.studentised_p_values(*THREE, alternative="two-sided"), [2 / 7, 5 / 7])


def test_one_value_alone_has_the_p_value_of_its_ranks() -> None:
    for joint in (False, True):
        p = metrics.studentised_p_values([2.0], [[0.0], [1.0], [2.0], [3.0]], joint=joint)
        np.testing.assert_allclose(p, 3 / 5)


def test_missing_and_unchanging_values_have_no_part_in_the_others() -> None:
    values, draws = np.array(THREE[0]), np.array(THREE[1])
    more = np.column_stack([draws[:, :1], np.zeros(3), draws[:, 1:], np.full(3, 0.1)])
    p = metrics.studentised_p_values([values[0], np.nan, values[1], 0.1], more)
    np.testing.assert_allclose(p, [1 / 7, np.nan, 5 / 7, 1.0])
    assert np.isnan(metrics.studentised_p_values([1.0, 2.0], [[0.0, np.nan], [2.0, 1.0]])).tolist() == [False, True]


def test_values_keep_their_shape() -> None:
    p = metrics.studentised_p_values(np.reshape(THREE[0], (2, 1)), np.reshape(THREE[1], (3, 2, 1)))
    np.testing.assert_allclose(p, [[1 / 7], [5 / 7]])


@pytest.mark.parametrize(("correlation", "joint"), [(0.0, False), (0.0, True), (0.9, True)])
def test_p_values_are_uniform_where_labels_do_not_matter(correlation: float, joint: bool) -> None:
    # 400 families of 30 values, which may depend on each other; every draw is made like the observed values.
    rng, families, rows, number = np.random.default_rng(0), 400, 30, 99
    small = np.zeros((families, 3))
    scale = np.geomspace(1, 1000, rows)
    for family in range(families):
        common = rng.standard_normal((number + 1, 1)) * np.sqrt(correlation)
        table = (common + rng.standard_normal((number + 1, rows)) * np.sqrt(1 - correlation)) * scale + scale
        p = metrics.studentised_p_values(table[0], table[1:], joint=joint)
        small[family] = [(p <= level).mean() for level in (0.01, 0.05, 0.10)]
    error = small.std(0) / np.sqrt(families)
    assert (small.mean(0) <= np.array([0.01, 0.05, 0.10]) + 2 * error).all()
    assert (small.mean(0) >= np.array([0.01, 0.05, 0.10]) - 4 * error).all()


def test_false_discoveries_stay_below_the_level_with_effects_among_the_values() -> None:
    # Half of the values have an effect of 6 standard deviations, which inflates the deviation they are divided by.
    rng, families, rows, number = np.random.default_rng(1), 300, 40, 99
    false, power = np.zeros(families), np.zeros(families)
    for family in range(families):
        table = rng.standard_normal((number + 1, rows))
        table[0, : rows // 2] += 6
        discovered = metrics.false_discovery_rates(metrics.studentised_p_values(table[0], table[1:])) < 0.1
        false[family] = discovered[rows // 2 :].sum() / max(discovered.sum(), 1)
        power[family] = discovered[: rows // 2].mean()
    assert false.mean() <= 0.1 + 2 * false.std() / np.sqrt(families)
    assert power.mean() > 0.99


def test_p_values_of_one_family_reach_below_one_over_its_draws() -> None:
    rng = np.random.default_rng(2)
    table = rng.standard_normal((100, 200))
    table[0, 0] = 5.0
    p = metrics.studentised_p_values(table[0], table[1:])[0]
    assert 1 / (1 + 99 * 200) <= p < 1e-3
    assert p == pytest.approx(norm.sf(5.0 / np.sqrt(1 + 25 / 100)), rel=1.0, abs=1e-4)
