"""Jackknife intervals: textbook equality, degenerate inputs, coverage by simulation; quantiles of histograms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from mixtral_probe import metrics


def test_equal_blocks_give_the_t_interval_of_the_mean():
    x = np.array([0.1, 0.4, 0.35, 0.8, 0.2])
    deleted = (x.sum() - x) / 4
    low, high = metrics.jackknife_interval(x.mean(), deleted, np.ones(5))
    expected = distributions.t.interval(0.95, 4, x.mean(), distributions.sem(x))
    assert (low, high) == pytest.approx(expected, abs=1e-12)


def test_the_bias_of_a_square_is_taken_out():
    # The jackknife turns the plug-in mean^2 into mean^2 - s^2/n, which is unbiased.
    x = np.array([1.0, 2.0, 4.0, 7.0])
    deleted = np.square((x.sum() - x) / 3)
    low, high = metrics.jackknife_interval(x.mean() ** 2, deleted, np.ones(4))
    assert (low + high) / 2 == pytest.approx(x.mean() ** 2 - x.var(ddof=1) / 4, abs=1e-12)


def coverage_of_a_square(blocks, mean, curvature, repeats=4000):
    """How often the interval of the square of a mean holds it; the mean in standard errors."""
    x = np.random.default_rng(blocks).normal(mean, np.sqrt(blocks), (repeats, blocks))
    total = x.sum(-1, keepdims=True)
    value, deleted = np.square(total[:, 0] / blocks), np.square((total - x) / (blocks - 1))
    found = metrics.jackknife(value, deleted, np.ones(blocks), curvature=curvature)
    assert (found.low <= found.corrected).all()
    assert (found.corrected <= found.high).all()
    return np.mean((found.low <= mean**2) & (mean**2 <= found.high))


@pytest.mark.parametrize("blocks", [5, 30])
@pytest.mark.parametrize("mean", [0, 1, 2, 5])
def test_the_square_of_a_small_mean_is_covered_when_its_curvature_is_told(blocks, mean):
    assert coverage_of_a_square(blocks, mean, 1.0) >= 0.93
    if mean in (1, 2):
        assert coverage_of_a_square(blocks, mean, 0.0) < 0.9


def test_strata_give_the_interval_of_welch():
    a, b = np.array([0.1, 0.4, 0.35, 0.8, 0.2]), np.array([1.0, 0.2, 0.9])
    deleted = [*((a.sum() - a) / 4 - b.mean()), *(a.mean() - (b.sum() - b) / 2)]
    found = metrics.jackknife_interval(a.mean() - b.mean(), deleted, np.ones(8), strata=[0] * 5 + [1] * 3)
    welch = distributions.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((welch.low, welch.high), abs=1e-12)


def test_a_stratum_of_one_block_has_no_interval_and_an_empty_one_is_not_there():
    assert np.isnan(metrics.jackknife_interval(0.5, [0.4, 0.5, 0.6], np.ones(3), strata=[0, 0, 1])).all()
    plain = metrics.jackknife_interval(0.5, [0.4, 0.6], np.ones(2))
    assert metrics.jackknife_interval(0.5, [0.4, 0.6, np.nan], [1, 1, 0], strata=[0, 0, 1]) == pytest.approx(plain)


def test_fewer_than_two_blocks_have_no_interval():
    low, high = metrics.jackknife_interval([0.5, 0.5], [[np.nan, 0.5], [0.4, 0.6]], [[10, 0], [10, 10]])
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert np.isfinite(low[1])
    assert np.isnan(metrics.jackknife_interval(0.5, np.empty(0), np.empty(0))).all()


def test_a_block_without_tokens_is_not_there():
    with_empty = metrics.jackknife_interval(0.5, [0.4, 0.55, 0.52, np.nan], [10, 12, 9, 0])
    without = metrics.jackknife_interval(0.5, [0.4, 0.55, 0.52], [10, 12, 9])
    assert with_empty == pytest.approx(without, rel=1e-15)


def test_one_dominating_document_costs_degrees_of_freedom():
    deleted = [0.45, 0.5, 0.55]
    even = np.ptp(metrics.jackknife_interval(0.5, deleted, [10, 10, 10]))
    uneven = np.ptp(metrics.jackknife_interval(0.5, deleted, [1000, 10, 10]))
    assert uneven == pytest.approx(even * distributions.t.ppf(0.975, 1) / distributions.t.ppf(0.975, 2), rel=1e-9)


def coverage(rng, *, documents, repeats, spread, preference):
    """How often the intervals of share and CV^2 hold the truth; document lengths are log-normal."""

    def counts(lengths):
        z = np.log(preference) + 0.4 * rng.standard_normal((*lengths.shape, 8))
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        return rng.multinomial(lengths, p)

    truth = counts(np.full(20000, 500)).sum(0)
    lengths = np.maximum(3, np.exp(rng.normal(np.log(60), spread, (repeats, documents)))).astype(int)
    found = counts(lengths)  # [repeats, Bk, E]
    total, deleted = found.sum(1), found.sum(1, keepdims=True) - found
    hits = {}
    for name, metric in {"share": lambda c: metrics.share(c)[..., 0], "cv_squared": metrics.cv_squared}.items():
        low, high = metrics.jackknife_interval(metric(total), metric(deleted), lengths)
        hits[name] = np.mean((low <= metric(truth)) & (metric(truth) <= high))
    return hits


SKEWED = np.array([0.2, 0.1, 0.1, 0.15, 0.05, 0.1, 0.15, 0.15])


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_coverage_with_eight_documents(spread):
    for hit in coverage(np.random.default_rng(5), documents=8, repeats=1000, spread=spread, preference=SKEWED).values():
        assert 0.91 <= hit <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("preference", [SKEWED, np.full(8, 1 / 8)])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("documents", [4, 8, 20, 64])
def test_coverage_at_length(documents, spread, preference):
    hits = coverage(
        np.random.default_rng(documents), documents=documents, repeats=10000, spread=spread, preference=preference
    )
    for hit in hits.values():
        assert 0.915 <= hit <= 0.998


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0, 1))
def test_histogram_quantile_is_within_a_bin_of_the_sample_quantile(values, level):
    edges = np.linspace(0, 1, 65)
    counts = np.histogram(values, edges)[0]
    exact = np.quantile(values, level, method="inverted_cdf")
    assert abs(metrics.histogram_quantile(counts, edges, level) - exact) <= 1 / 64 + 1e-9


def test_histogram_quantile_by_hand():
    edges = [0, 1, 2, 3, 4]
    assert metrics.histogram_quantile([0, 2, 0, 2], edges, 0.5) == 2
    assert metrics.histogram_quantile([0, 2, 0, 2], edges, 0.25) == 1.5
    assert metrics.histogram_quantile([0, 2, 0, 2], edges, 1.0) == 4
    assert np.isnan(metrics.histogram_quantile([[0, 0, 0, 0]], edges, 0.5)).all()


def test_blocks_without_a_size_are_left_out_where_that_is_asked_and_give_no_freedom():
    """A share of an expert that 3 of 6 documents have, among as many tokens in each: the mean of six shares."""
    share = np.array([0.3, 0.1, 0.2, 0.0, 0.0, 0.0])
    deleted, sizes = (share.sum() - share) / 5, [3, 1, 2, 0, 0, 0]
    found = metrics.jackknife(0.1, deleted, sizes, left_out=np.ones(6, bool))
    half = distributions.t.ppf(0.975, 36 / 14 - 1) * share.std(ddof=1) / np.sqrt(6)
    assert found[:3] == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert metrics.jackknife(0.1, deleted, sizes).corrected == pytest.approx(0.1 + 2 * 0.1 / 5)
