"""The tail of the hypergeometric distribution, against scipy's and exact fractions."""

import warnings
from fractions import Fraction
from math import comb

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mixtral_probe.metrics.specialization.hypergeometric import upper_tail


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 4), min_size=1, max_size=20))
def test_small_tails_are_those_of_exact_fractions(cells):
    ordered = [(k, max(a, b, c), a, b) for k, a, b, c in cells]
    expected = [
        float(
            sum(
                (Fraction(comb(took, x) * comb(tokens - took, n - x), comb(tokens, n)) for x in range(k, n + 1)),
                Fraction(0),
            )
        )
        for k, tokens, took, n in ordered
    ]
    np.testing.assert_allclose(upper_tail(*np.array(ordered).T), expected, rtol=1e-10, atol=1e-13)


def test_large_tails_are_those_of_scipy():
    rng = np.random.default_rng(0)
    tokens = 1_000_000
    took = rng.integers(1, tokens, 300)
    n = np.maximum((10 ** rng.uniform(0, 5, 300)).astype(int), 1)
    spread = np.sqrt(n * (took / tokens) * (1 - took / tokens))
    k = np.clip(np.rint(n * took / tokens + rng.normal(0, 4, 300) * spread), 0, n).astype(int)
    expected = stats.hypergeom.sf(k - 1, tokens, took, n)
    np.testing.assert_allclose(upper_tail(k, tokens, took, n), expected, rtol=1e-7, atol=1e-13)


def test_equal_cells_and_axes():
    k, took = np.array([[3], [3], [0]]), np.array([5, 5])
    found = upper_tail(k, 20, took, 6)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found, np.broadcast_to(stats.hypergeom.sf(k - 1, 20, 5, 6), (3, 2)))
    assert upper_tail(1, 4, 2, 3).shape == ()
    assert upper_tail(np.zeros((0, 3)), 4, 2, 3).shape == (0, 3)


def test_what_means_nothing_has_no_value():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(upper_tail([1, 1, 1], [4, 4, 4], [5, 2, -1], [2, 5, 2])).all()
        np.testing.assert_array_equal(upper_tail([0, 1], 0, 0, 0), [1, 0])
