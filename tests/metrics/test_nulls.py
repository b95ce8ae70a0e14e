"""Chance levels: closed forms and the simulation of uniform top-K routing, against brute force."""

import numpy as np
import pytest
from scipy import stats as distributions

from mixtral_probe import metrics


def brute_force(tokens, experts, chosen, draws, seed=1):
    """[draws, E] counts of tokens that each choose a random set of experts."""
    order = np.random.default_rng(seed).random((draws, tokens, experts)).argsort(-1)[..., :chosen]
    return (order[..., None] == np.arange(experts)).sum((1, 2))


def test_expected_cv_squared_is_three_over_t_for_two_of_eight():
    assert metrics.expected_cv_squared([0, 100], 8) == pytest.approx(0.03)
    found = metrics.cv_squared(brute_force(50, 8, 2, 4000)).mean()
    assert found == pytest.approx(float(metrics.expected_cv_squared([0, 50], 8)), rel=0.05)
    assert np.isnan(metrics.expected_cv_squared([0, 0], 8))


def test_expected_dead_experts():
    assert metrics.expected_dead_experts([0, 1], 8) == 6
    found = metrics.dead_experts(brute_force(6, 8, 2, 4000)).mean()
    assert found == pytest.approx(float(metrics.expected_dead_experts([0, 6], 8)), rel=0.05)
    assert np.isnan(metrics.expected_dead_experts([0, 0], 8))


@pytest.mark.parametrize("tokens", [300, 20000])
def test_simulated_counts_are_uniform_routing(tokens):
    counts = metrics.uniform_counts(tokens, 8, 2.0)
    mean = tokens / 4
    np.testing.assert_allclose(counts.sum(-1), 2 * tokens, rtol=1e-12)
    assert counts.mean() == pytest.approx(mean, rel=1e-9)
    chi_squared = np.square(counts - mean).sum(-1) / mean * 7 / 6
    assert distributions.kstest(chi_squared, distributions.chi2(7).cdf).pvalue > 0.01


@pytest.mark.parametrize(("tokens", "experts", "chosen"), [(20, 8, 2), (600, 8, 2), (90, 64, 1), (65, 64, 8)])
@pytest.mark.parametrize("name", ["max_violation", "min_violation", "gini", "normalized_entropy"])
def test_simulated_null_agrees_with_brute_force(name, tokens, experts, chosen):
    metric = getattr(metrics, name)
    mean, most = metrics.simulated_null(metric, tokens, experts, float(chosen))
    independent = metric(brute_force(tokens, experts, chosen, 1500 if experts == 8 else 500))
    assert mean == pytest.approx(independent.mean(), rel=0.06)
    assert most == pytest.approx(np.quantile(independent, 0.95), rel=0.1)


def test_null_is_the_same_each_time_and_missing_for_no_tokens():
    assert metrics.simulated_null(metrics.gini, 99, 8, 2.0) == metrics.simulated_null(metrics.gini, 99, 8, 2.0)
    assert np.isnan(metrics.simulated_null(metrics.gini, 0, 8, 2.0)).all()


def test_choosing_every_expert_leaves_nothing_to_chance():
    assert metrics.simulated_null(metrics.max_violation, 5000, 4, 4.0) == (0, 0)
    assert metrics.expected_cv_squared([0, 0, 0, 10], 4) == 0


def test_shared_draws_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        metrics.uniform_counts(10, 4, 1.0)[0] = 0


def test_counts_of_every_set_of_two_tokens_are_equally_likely():
    """Two tokens, each one of 3 pairs of 3 experts: 9 cases, of which 3 give (2, 2, 0) in some order."""
    counts = metrics.uniform_counts(2, 3, 2.0, draws=20_000)
    kinds, number = np.unique(counts, axis=0, return_counts=True)
    assert kinds.tolist() == [[0, 2, 2], [1, 1, 2], [1, 2, 1], [2, 0, 2], [2, 1, 1], [2, 2, 0]]
    expected = 20_000 / 9 * np.where((kinds == 0).any(1), 1, 2)
    assert distributions.chisquare(number, expected).pvalue > 0.01


def test_a_fractional_number_of_choices_is_kept():
    counts = metrics.uniform_counts(40, 8, 1.25)
    assert (counts.sum(-1) == 50).all()
    assert (counts <= 40).all()


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (16, 1)])
def test_expected_max_violation_of_many_sizes(experts, chosen):
    sizes = np.array([[0, 1, 3], [40, 61, 2040]])
    found = metrics.expected_max_violation(sizes, experts, chosen)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == pytest.approx(experts / chosen - 1)  # one token: its experts have all the load
    for place in ((0, 2), (1, 0), (1, 1)):
        draws = metrics.max_violation(brute_force(int(sizes[place]), experts, chosen, 3000))
        assert found[place] == pytest.approx(draws.mean(), rel=0.03)
    mean, _ = metrics.simulated_null(metrics.max_violation, 2040, experts, chosen)
    assert found[1, 2] == pytest.approx(mean, rel=0.03)
    assert (metrics.expected_max_violation([1, 50], 4, 4) == 0).all()


def mixed(draws, choices, experts=8):
    """[draws, E] counts and [draws, E] even weights of tokens of which so many choose 1, 2, ... experts."""
    counts, weights = np.zeros((2, draws, experts))
    for number, tokens in enumerate(choices, start=1):
        own = brute_force(tokens, experts, number, draws, seed=number)
        counts, weights = counts + own, weights + own / number
    return counts, weights


def test_nulls_of_tokens_that_choose_one_two_or_three_experts():
    choices = [5, 9, 12]
    counts, weights = mixed(6000, choices)
    assert metrics.expected_cv_squared(choices, 8) == pytest.approx(metrics.cv_squared(counts).mean(), rel=0.04)
    assert metrics.expected_importance_cv_squared(choices, 8) == pytest.approx(
        metrics.cv_squared(weights).mean(), rel=0.04
    )
    assert metrics.load_chi_squared(counts, choices).mean() == pytest.approx(7, rel=0.04)
    assert metrics.expected_max_violation(26, 8, 59 / 26) == pytest.approx(
        metrics.max_violation(counts).mean(), rel=0.04
    )
    few, _ = mixed(6000, [2, 1, 1])
    assert metrics.expected_dead_experts([2, 1, 1], 8) == pytest.approx(metrics.dead_experts(few).mean(), rel=0.02)
