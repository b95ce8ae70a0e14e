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
    assert metrics.expected_cv_squared(100, 8, 2) == pytest.approx(0.03)
    found = metrics.cv_squared(brute_force(50, 8, 2, 4000)).mean()
    assert found == pytest.approx(float(metrics.expected_cv_squared(50, 8, 2)), rel=0.05)
    assert np.isnan(metrics.expected_cv_squared(0, 8, 2))


def test_expected_dead_experts():
    assert metrics.expected_dead_experts(1, 8, 2) == 6
    found = metrics.dead_experts(brute_force(6, 8, 2, 4000)).mean()
    assert found == pytest.approx(float(metrics.expected_dead_experts(6, 8, 2)), rel=0.05)
    assert np.isnan(metrics.expected_dead_experts(0, 8, 2))


@pytest.mark.parametrize("tokens", [300, 20000])  # drawn one by one; drawn from the normal
def test_simulated_counts_are_uniform_routing(tokens):
    counts = metrics.uniform_counts(tokens, 8, 2.0)
    mean = tokens / 4
    np.testing.assert_allclose(counts.sum(-1), 2 * tokens, rtol=1e-12)
    assert counts.mean() == pytest.approx(mean, rel=1e-9)
    chi_squared = np.square(counts - mean).sum(-1) / mean * 7 / 6
    assert distributions.kstest(chi_squared, distributions.chi2(7).cdf).pvalue > 0.01


@pytest.mark.parametrize("tokens", [20, 600])
@pytest.mark.parametrize("name", ["max_violation", "min_violation", "gini", "normalized_entropy"])
def test_simulated_null_agrees_with_brute_force(name, tokens):
    metric = getattr(metrics, name)
    mean, most = metrics.simulated_null(metric, tokens, 8, 2.0)
    independent = metric(brute_force(tokens, 8, 2, 1500))
    assert mean == pytest.approx(independent.mean(), rel=0.06)
    assert most == pytest.approx(np.quantile(independent, 0.95), rel=0.1)


def test_null_is_the_same_each_time_and_missing_for_no_tokens():
    assert metrics.simulated_null(metrics.gini, 99, 8, 2.0) == metrics.simulated_null(metrics.gini, 99, 8, 2.0)
    assert np.isnan(metrics.simulated_null(metrics.gini, 0, 8, 2.0)).all()


def test_choosing_every_expert_leaves_nothing_to_chance():
    assert metrics.simulated_null(metrics.max_violation, 5000, 4, 4.0) == (0, 0)
    assert metrics.expected_cv_squared(10, 4, 4) == 0


def test_shared_draws_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        metrics.uniform_counts(10, 4, 1.0)[0] = 0
