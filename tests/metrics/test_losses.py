"""Balance losses: exact identities on arbitrary loads and probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtral_probe import metrics

seeds = st.integers(0, 10**6)


def distributions(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.3), size=shape[:-1])


def test_balance_and_collapse():
    even, pair = np.full(8, 1 / 8), np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    assert metrics.load_balancing_loss(even, even) == 1
    assert metrics.load_balancing_loss(pair, pair) == 4
    assert metrics.load_balancing_loss(pair, even) == 1  # even probabilities give 1 for any load
    assert metrics.load_balancing_contribution(pair, pair).tolist() == [2, 2, 0, 0, 0, 0, 0, 0]


@given(seeds, st.integers(2, 16))
def test_excess_sums_to_the_loss_minus_one(seed, experts):
    f, p = distributions(seed, 2, experts)
    loss = metrics.load_balancing_loss(f, p)
    assert metrics.load_balancing_contribution(f, p).sum() == pytest.approx(loss, abs=1e-12)
    assert metrics.load_balancing_excess(f, p).sum() == pytest.approx(loss - 1, abs=1e-12)
    assert loss - 1 == pytest.approx(experts**2 * np.cov(f, p, bias=True)[0, 1], abs=1e-12)


@given(seeds, st.integers(2, 9), st.integers(1, 6))
def test_pooling_gap_is_the_mean_of_losses_minus_the_loss_of_the_pool(seed, experts, groups):
    f, p = distributions(seed, 2, groups, experts)
    weights = np.random.default_rng(seed).integers(1, 50, groups)
    pooled = metrics.load_balancing_loss(np.average(f, 0, weights), np.average(p, 0, weights))
    mean = np.average(metrics.load_balancing_loss(f, p), weights=weights)
    assert metrics.pooling_gap(f, p, weights).sum() == pytest.approx(mean - pooled, abs=1e-12)


def test_a_group_without_tokens_changes_no_gap():
    f, p = distributions(3, 2, 2, 4)
    missing = np.full((1, 4), np.nan)
    with_empty = metrics.pooling_gap(np.concatenate([f, missing]), np.concatenate([p, missing]), [3, 5, 0])
    np.testing.assert_allclose(with_empty, metrics.pooling_gap(f, p, [3, 5]), rtol=1e-15)


def test_weighted_mean_of_nothing_is_missing():
    assert np.isnan(metrics.weighted_mean([1.0, 2.0], [0, 0]))


@given(seeds)
def test_token_parts_average_to_the_loss(seed):
    p = distributions(seed, 50, 8)
    f = distributions(seed + 1, 8)
    assert metrics.token_balance_loss(f, p).shape == (50,)
    assert metrics.token_balance_loss(f, p).mean() == pytest.approx(
        metrics.load_balancing_loss(f, p.mean(0)), abs=1e-12
    )
