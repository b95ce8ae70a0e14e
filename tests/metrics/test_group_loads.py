"""Loads of groups of documents: hand values, and what the spread of documents alone gives, by simulation."""

import numpy as np
import pytest

from mixtral_probe import metrics

COUNTS = np.array([[3, 1], [1, 1], [0, 4], [2, 2]])
TOKENS = np.array([4, 2, 4, 4])
LN2 = np.log(2)


def test_loads_and_spread_by_hand():
    loads = metrics.group_loads([[0, 0, 1, 1], [0, 1, 1, 1]], COUNTS, TOKENS, groups=2)
    assert loads.counts.tolist() == [[[4, 2], [2, 6]], [[3, 1], [3, 7]]]
    assert loads.tokens.tolist() == [[6, 8], [4, 10]]
    np.testing.assert_allclose(loads.whole[0], [[6 / 14, 8 / 14]])
    # The first group: frequency 4/6, documents 3 - 8/3 and 1 - 4/3 off; twice (1/9 + 1/9) / 36 is less than independent
    # tokens have, 6/14 8/14 / 6. The second: frequency 2/8, documents -1 and 1 off, 2 (1 + 1) / 64.
    independent = 6 / 14 * 8 / 14
    np.testing.assert_allclose(loads.variance[0], [[independent / 6] * 2, [4 / 64] * 2])
    # One document alone: 3 - 4 6/14 = 9/7 off the frequency of all.
    np.testing.assert_allclose(loads.variance[1][0], [(9 / 7 / 4) ** 2] * 2)


def test_a_difference_in_standard_errors_by_hand():
    loads = metrics.group_loads([[0, 0, 1, 1]], COUNTS, TOKENS, groups=2)
    share, variance = np.array([6 / 14, 8 / 14]), loads.variance[0, :, 0]
    error = np.sqrt((8 / 14) ** 2 * variance[0] + share[1] ** 2 * variance[1])
    np.testing.assert_allclose(metrics.difference_t(loads)[0, 0, 0], (4 / 6 - 6 / 14) / error)
    error = np.sqrt((6 / 14) ** 2 * variance[1] + share[0] ** 2 * variance[0])
    np.testing.assert_allclose(metrics.difference_t(loads)[0, 1, 0], (2 / 8 - 6 / 14) / error)
    alike = metrics.group_loads([[0, 1]], [[2, 0], [2, 0]], [2, 2], groups=2)
    assert metrics.difference_t(alike).tolist() == [[[0, 0], [0, 0]]]


def test_the_spread_of_independent_tokens_is_the_bias_of_miller_and_madow():
    # Documents of one token: 300 and 100 of them, one choice of three experts each.
    ids = np.repeat([0, 1, 2, 0, 1, 2], [90, 90, 120, 30, 30, 40])
    labels = np.repeat([0, 1], [300, 100])
    loads = metrics.group_loads([labels], np.eye(3)[ids], np.ones(400), groups=2)
    bias = metrics.mutual_information_bias(loads.counts[0])
    assert metrics.spread_information_bits(loads)[0] == pytest.approx(bias, rel=0.01)
    # Of two samples: 1/8 sum (1/n_p + 1/n_q) (1 - f) / ln 2 over the experts.
    assert metrics.spread_divergence_bits(loads)[0] == pytest.approx((1 / 300 + 1 / 100) * 2 / (8 * LN2), rel=0.01)


@pytest.mark.parametrize(("documents", "tokens"), [((6, 6), (150, 150)), ((30, 6), (200, 20))])
def test_the_spread_of_documents_is_what_they_give_where_groups_are_alike(documents, tokens):
    rng, found = np.random.default_rng(0), []
    labels, sizes = np.repeat([0, 1], documents), np.repeat(tokens, documents)
    for _ in range(300):
        taste = rng.dirichlet(np.full(6, 8.0), len(labels))
        loads = metrics.group_loads([labels], rng.multinomial(sizes, taste), sizes, groups=2)
        divergence = metrics.js_divergence_bits(*loads.counts[0])
        found.append(
            (
                metrics.mutual_information_bits(loads.counts[0]), metrics.spread_information_bits(loads)[0],
                divergence, metrics.spread_divergence_bits(loads)[0],
            )
        )  # fmt: skip
    bits, spread, divergence, apart = np.mean(found, axis=0)
    assert spread == pytest.approx(bits, rel=0.12)
    assert apart == pytest.approx(divergence, rel=0.12)


def test_groups_without_documents_have_no_part():
    loads = metrics.group_loads([[0, 0, 2, 2]], COUNTS, TOKENS, groups=3)
    two = metrics.group_loads([[0, 0, 1, 1]], COUNTS, TOKENS, groups=2)
    np.testing.assert_allclose(loads.variance[0, [0, 2]], two.variance[0])
    assert (loads.variance[0, 1] == 0).all()
    np.testing.assert_allclose(metrics.spread_information_bits(loads), metrics.spread_information_bits(two))
