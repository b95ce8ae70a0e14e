"""Vocabulary specialization, lift and divergences: hand values, the null of uniform routing, scipy, simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions
from scipy.spatial.distance import jensenshannon

from mixtral_probe import metrics
from mixtral_probe.resources import data_path


def uniform_sets(rng, tokens, experts=8, chosen=2):
    return rng.random((tokens, experts)).argsort(-1)[:, :chosen]


def test_vocabulary_specialization_by_hand():
    counts = np.array([[3, 1, 0], [1, 1, 0], [0, 0, 8]])  # one choice each: 3/4, 1/2, 1
    n = counts.sum(-1)
    assert metrics.vocabulary_specialization(counts, n) == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert metrics.vocabulary_specialization(counts, n, min_count=4) == pytest.approx((0.75 + 1) / 2)
    assert metrics.vocabulary_specialization(counts, n, weighting="token") == pytest.approx(12 / 14)
    # Two choices each: 2 tokens of the first type, of which 2 at most can have chosen an expert.
    assert metrics.vocabulary_specialization([[2, 1, 1]], [2]) == 1
    assert np.isnan(metrics.vocabulary_specialization(counts, n, min_count=9))
    assert np.isnan(metrics.vocabulary_specialization(np.zeros((0, 3)), np.zeros(0)))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 1.0),
        (2, 41 / 56),
        (3, 0.669),
        (5, 0.563),
        (10, 0.470),
        (20, 0.404),
        (50, 0.346),
        (100, 0.318),
        (1000, 0.271),
    ],
)
def test_null_of_uniform_top_2_of_8(n, expected):
    assert metrics.expected_largest_share(n, np.full(8, 0.25)) == pytest.approx(expected, abs=0.005)


def test_null_of_uneven_loads_is_that_of_simulated_routing():
    rng, weights = np.random.default_rng(3), np.array([4.0, 2, 1, 1])
    first = rng.choice(4, 60_000, p=weights / 8)
    load = np.bincount(first, minlength=4) / 60_000
    for n in (3, 12, 100):
        shares = [np.bincount(part, minlength=4).max() / n for part in first[: 60_000 // n * n].reshape(-1, n)]
        assert metrics.expected_largest_share(n, load) == pytest.approx(np.mean(shares), abs=0.008)
    assert metrics.expected_largest_share(7, np.ones(3)) == 1  # every token chooses every expert


def test_plug_in_is_lifted_by_rare_types():
    rng = np.random.default_rng(0)
    types, sets = rng.integers(0, 400, 4000), uniform_sets(rng, 4000)
    counts = np.zeros((400, 8))
    np.add.at(counts, (np.repeat(types, 2), sets.ravel()), 1)
    n = metrics.occurrences(counts, chosen=2)
    plug_in = metrics.vocabulary_specialization(counts, n)
    assert plug_in == pytest.approx(metrics.expected_largest_share(n, np.full(8, 0.25)).mean(), abs=0.012)
    assert plug_in > 0.45


def test_lift_and_npmi_by_hand():
    counts, n, load, tokens = [[6, 2], [2, 10]], [8, 12], [8, 12], 20
    np.testing.assert_allclose(
        metrics.token_lift(counts, n, load, tokens)[0], [(6 / 8) / (8 / 20), (2 / 8) / (12 / 20)]
    )
    expected = np.log(0.3 / (0.4 * 0.4)) / -np.log(0.3)
    assert metrics.token_npmi(counts, n, load)[0, 0] == pytest.approx(expected)
    assert metrics.token_npmi([[3, 0], [0, 3]], [3, 3], [3, 3]).tolist() == [[1, -1], [-1, 1]]
    assert metrics.token_npmi([[4.0]], [4], [4]).item() == 1
    assert np.isnan(metrics.token_lift([[0, 0]], [0], [0, 0], 0)).all()


def test_p_values_are_those_of_fisher():
    counts, n, load, tokens = np.array([[6, 2], [2, 10]]), np.array([8, 12]), np.array([8, 12]), 20
    p = metrics.lift_p_values(counts, n, load, tokens)
    assert p[0, 0] == pytest.approx(distributions.fisher_exact([[6, 2], [2, 10]], "greater").pvalue)
    assert p[0, 1] == pytest.approx(distributions.fisher_exact([[2, 6], [10, 2]], "greater").pvalue)


def test_p_values_of_routing_blind_to_types_are_uniform():
    rng = np.random.default_rng(1)
    draws = distributions.hypergeom.rvs(4000, 1000, 400, size=2000, random_state=rng)
    p = [metrics.lift_p_values([[k]], [400], [1000], 4000).item() for k in np.unique(draws)]
    found = dict(zip(np.unique(draws), p, strict=True))
    values = np.array([found[k] for k in draws])
    # A p-value of counts is a step function, and its middle (mid-p) is uniform up to a step.
    middle = values - distributions.hypergeom.pmf(draws, 4000, 1000, 400) * rng.random(2000)
    assert distributions.kstest(middle, "uniform").pvalue > 0.01
    assert (values <= 0.05).mean() <= 0.06


def folds_of(counts):
    """Rows of counts [F, V, E] as `consistent_lift_p_values` takes them: counts, tokens, fold, type of what occurs."""
    fold, place = np.nonzero(counts.sum(-1))
    return counts[fold, place], counts[fold, place].sum(-1), fold, place


def test_a_consistent_preference_is_that_of_the_t_test_over_folds():
    rng = np.random.default_rng(2)
    counts = rng.poisson(3.0 * rng.dirichlet(np.full(4, 3.0), (6, 1)) * 4, (6, 5, 4))
    counts[2:, 3] = 0  # the fourth type is in two folds only
    p = metrics.consistent_lift_p_values(*folds_of(counts), [0, 1, 3])
    frequency = counts.sum(1) / counts.sum((1, 2))[:, None]
    for row, kind in enumerate([0, 1]):
        own, n = counts[:, kind], counts[:, kind].sum(-1)
        excess = (own - n[:, None] * frequency) / np.sqrt(n)[:, None]
        t_test = distributions.ttest_1samp(excess, 0, alternative="greater").pvalue
        whole, load = own.sum(0), counts.sum((0, 1))
        alone = [distributions.hypergeom.sf(whole[e] - 1, load.sum(), load[e], whole.sum()) for e in range(4)]
        np.testing.assert_allclose(p[row], np.maximum(t_test, alone))
    assert np.isnan(p[2]).all()


def test_equal_values_in_all_folds_are_no_proof():
    # In each of 5 folds one of two tokens of the first type chose expert 0, as 4 of 10 of the second did.
    counts = np.tile([[1, 1], [4, 6]], (5, 1, 1))
    p = metrics.consistent_lift_p_values(*folds_of(counts), [0])
    assert p[0, 0] == pytest.approx(distributions.hypergeom.sf(4, 60, 25, 10))


def test_false_discoveries_by_hand():
    # Benjamini and Hochberg: p m / rank, made monotone from the largest down.
    found = metrics.false_discovery_rates([0.01, 0.04, 0.03, np.nan])
    np.testing.assert_allclose(found, [0.03, 0.04, 0.04, np.nan])
    assert np.isnan(metrics.false_discovery_rates([[np.nan]])).all()


def test_divergences_are_those_of_scipy_and_keep_their_ends():
    p, q = np.array([5, 1, 3, 1]), np.array([1, 1, 1, 7])
    assert metrics.js_divergence_bits(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    entropy = (distributions.entropy(p, base=2) + distributions.entropy(q, base=2)) / 2
    expected = jensenshannon(p, q, base=2) ** 2 / (2 - entropy)
    assert metrics.normalized_js_divergence(p, q) == pytest.approx(expected)
    assert metrics.load_cosine(p, q) == pytest.approx(p @ q / np.linalg.norm(p) / np.linalg.norm(q))
    apart = np.array([1, 1, 0, 0]), np.array([0, 0, 2, 2])
    assert metrics.js_divergence_bits(*apart) == metrics.normalized_js_divergence(*apart) == 1
    assert metrics.load_cosine(*apart) == metrics.top_p_jaccard(*apart) == 0
    assert metrics.js_divergence_bits(p, 3 * p) == pytest.approx(0, abs=1e-15)
    assert metrics.top_p_jaccard(p, [5, 0, 5, 0]) == 1 / 1
    assert metrics.top_p_jaccard(p, q) == 0


def test_divergences_of_nothing_are_missing_without_a_warning():
    for formula in (
        metrics.js_divergence_bits, metrics.normalized_js_divergence, metrics.load_cosine, metrics.top_p_jaccard,
    ):  # fmt: skip
        assert np.isnan(formula([0, 0, 0], [1, 2, 3])), formula.__name__
    assert np.isnan(metrics.normalized_js_divergence([1, 1], [3, 3]))


def test_published_vocabulary_specialization_of_mixtral():
    # OLMoE (2409.02060): by layer for the input, predicted and ground-truth token, each a mean over types.
    published = pd.read_csv(
        data_path("real_mixtral") / "olmoe_paper_mixtral_vocabulary_specialization.csv", index_col="layer"
    )
    assert list(published.index) == [*range(32)]
    assert published.loc[0].tolist() == [75.1, 66.8, 64.5]
    assert published.max().tolist() == [91.4, 91.4, 88.4]
    # The lowest are about what types met two or three times score when the router picks uniformly.
    assert metrics.expected_largest_share([2, 3], np.full(8, 2 / 8)) * 100 == pytest.approx([73.2, 66.9], abs=0.3)
    assert published.min().to_numpy() == pytest.approx([75.1, 66.8, 64.5])
