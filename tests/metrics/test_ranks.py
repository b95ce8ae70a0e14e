"""Ranks among draws and among estimates: by hand, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import t

from mixtral_probe import metrics

DRAWS = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]])


def test_the_level_of_a_range_is_the_share_of_places_inside_it():
    assert metrics.draw_level(39) == 0.95
    assert metrics.draw_level(19) == 0.9
    assert metrics.draw_level(7) == 0.75
    assert metrics.draw_level(1) == 0


def test_a_rank_counts_the_draws_that_are_larger():
    assert metrics.draw_rank([2.5, 5.0], DRAWS).tolist() == [3, 1]  # equal draws come after
    assert metrics.draw_rank([9.0, 0.0], DRAWS).tolist() == [1, 5]


def test_a_two_sided_p_value_doubles_the_nearer_side():
    # 2.5 of 1, 2, 3, 4: two are as large and two as small, 2 · (1 + 2) / 5, at most 1; 3.5 has one above: 2 · 2 / 5.
    assert metrics.draw_p_value([2.5, 5.0], DRAWS).tolist() == [1, 1]
    assert metrics.draw_p_value(3.5, DRAWS[:, 0]) == pytest.approx(4 / 5)
    assert metrics.draw_p_value([0.0, 9.0], DRAWS).tolist() == [2 / 5, 2 / 5]  # outside: 2 / (D + 1)
    assert metrics.draw_p_value(4.0, DRAWS[:, 0]) == pytest.approx(4 / 5)  # a draw is as large


@pytest.mark.parametrize("draws", [7, 39])
def test_exchangeable_values_are_outside_the_range_as_often_as_the_level_says(draws):
    values = np.random.default_rng(0).standard_cauchy((draws + 1, 20_000))
    value, drawn = values[0], values[1:]
    outside = (value < drawn.min(0)) | (value > drawn.max(0))
    assert outside.mean() == pytest.approx(1 - metrics.draw_level(draws), abs=0.01)
    p = metrics.draw_p_value(value, drawn)
    assert ((p <= 2 / (draws + 1) + 1e-9) == outside).all()
    assert p.min() == pytest.approx(2 / (draws + 1))
    for level in (0.05, 0.1, 0.5):
        assert (p <= level).mean() <= level + 2 * np.sqrt(level / 20_000)


def jackknifed(values):
    """Estimates [R] of values [R, blocks] and those without each block; blocks of one size."""
    return values.mean(1), (values.sum(1, keepdims=True) - values) / (values.shape[1] - 1), np.ones(values.shape[1])


def test_rank_intervals_are_those_of_all_paired_t_tests():
    values = np.random.default_rng(3).normal([[0.0], [0.3], [2.0], [2.1], [9.0]], 1, (5, 8))
    ranks = metrics.rank_intervals(*jackknifed(values))
    quantile = t.ppf(1 - 0.05 / 4 / 2, 7)  # Bonferroni over the four others
    for one in range(5):
        tests = [(values[other] - values[one]) for other in range(5) if other != one]
        scores = np.array([d.mean() / (d.std(ddof=1) / np.sqrt(8)) for d in tests])
        assert ranks.low[one] == 1 + (scores > quantile).sum()
        assert ranks.high[one] == 5 - (scores < -quantile).sum()
    assert ranks.value.tolist() == (1 + (values.mean(1)[None] > values.mean(1)[:, None]).sum(1)).tolist()
    np.testing.assert_array_equal(ranks.value, ranks.corrected)
    assert ranks.low[4] == ranks.high[4] == 1


def test_estimates_that_do_not_differ_share_all_ranks():
    ranks = metrics.rank_intervals(*jackknifed(np.tile(np.arange(6.0), (4, 1))))
    assert ranks.value.tolist() == [1, 1, 1, 1]
    assert ranks.low.tolist() == [1, 1, 1, 1]
    assert ranks.high.tolist() == [4, 4, 4, 4]


def test_ranks_without_blocks_have_no_interval():
    ranks = metrics.rank_intervals([1.0, 2.0], [[np.nan], [np.nan]], [3])
    assert ranks.value.tolist() == [2, 1]
    assert np.isnan(np.stack(ranks[1:])).all()


def coverage(blocks, runs, experts=12):
    """How often the intervals of all ranks hold the true ones: estimates that share the noise of their documents."""
    rng, truth = np.random.default_rng(blocks), np.linspace(0, 1, experts) ** 3
    held = []
    for _ in range(runs):
        shared = rng.normal(0, 1, (1, blocks))
        values = truth[:, None] + shared + rng.standard_t(5, (experts, blocks))
        ranks = metrics.rank_intervals(*jackknifed(values))
        true = experts - np.arange(experts)
        held.append((ranks.low <= true) & (true <= ranks.high))
    return np.mean(held)


@pytest.mark.parametrize("blocks", [5, 20])
def test_rank_intervals_hold_the_true_rank(blocks):
    assert coverage(blocks, 100) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [5, 8, 30, 64])
def test_rank_intervals_hold_the_true_rank_in_many_samples(blocks):
    assert coverage(blocks, 1000) >= 0.95
