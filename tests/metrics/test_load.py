"""Load metrics: hand values, published values of real Mixtral, invariants."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from mixtral_probe import metrics
from mixtral_probe.resources import data_path

BALANCE = ("max_violation", "min_violation", "cv_squared", "gini", "normalized_entropy", "effective_experts")
counts_of = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


def test_all_tokens_on_two_of_eight():
    counts = [0, 10, 0, 0, 10, 0, 0, 0]
    assert metrics.max_violation(counts) == 3
    assert metrics.min_violation(counts) == 1
    assert metrics.cv_squared(counts) == 3
    assert metrics.gini(counts) == pytest.approx(0.75, abs=1e-15)
    assert metrics.normalized_entropy(counts) == pytest.approx(1 / 3, abs=1e-15)
    assert metrics.effective_experts(counts) == pytest.approx(2, abs=1e-14)
    assert metrics.dead_experts(counts) == 6
    assert metrics.share(counts).tolist() == [0, 0.5, 0, 0, 0.5, 0, 0, 0]
    assert metrics.selection_frequency(counts, 10).tolist() == [0, 1, 0, 0, 1, 0, 0, 0]


def test_even_load():
    counts = np.full((2, 3, 8), 5)
    for name, even in dict(zip(BALANCE, (0, 0, 0, 0, 1, 8), strict=True)).items():
        np.testing.assert_allclose(getattr(metrics, name)(counts), np.full((2, 3), even), atol=1e-14)
    assert (metrics.dead_experts(counts) == 0).all()


def test_nothing_chosen_is_missing_without_a_warning():
    counts = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    for name in (*BALANCE, "dead_experts"):
        value = getattr(metrics, name)(counts)
        assert np.isnan(value[0]), name
        assert np.isfinite(value[1]), name
    assert np.isnan(metrics.selection_frequency([1, 1], 0)).all()


def test_a_single_expert_is_even():
    assert metrics.normalized_entropy([7]) == 1
    assert metrics.gini([7]) == 0
    assert metrics.max_violation([7]) == 0


@given(counts_of)
def test_against_independent_formulas(counts):
    f = np.array(counts) / np.sum(counts)
    n = len(f)
    assert metrics.gini(counts) == pytest.approx(np.abs(f[:, None] - f).sum() / (2 * n * n * f.mean()), abs=1e-12)
    assert metrics.cv_squared(counts) == pytest.approx(np.var(counts) / np.mean(counts) ** 2, rel=1e-9, abs=1e-12)
    assert metrics.normalized_entropy(counts) == pytest.approx(entropy(counts) / np.log(n), abs=1e-12)
    assert metrics.effective_experts(counts) == pytest.approx(np.exp(entropy(counts)), rel=1e-12)


@given(counts_of, st.randoms())
def test_ranges_and_no_dependence_on_order(counts, random):
    shuffled = list(counts)
    random.shuffle(shuffled)
    for name in BALANCE:
        value = getattr(metrics, name)(counts)
        assert value == pytest.approx(getattr(metrics, name)(shuffled), abs=1e-12)
    assert -1e-12 <= metrics.gini(counts) <= 1 - 1 / len(counts) + 1e-12
    assert -1e-12 <= metrics.max_violation(counts) <= len(counts) - 1
    assert -1e-12 <= metrics.normalized_entropy(counts) <= 1 + 1e-12


def real_counts(layer, domain):
    table = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_domain_counts.csv")
    rows = table[(table["layer"] == layer) & (table["domain"] == domain)].sort_values("expert")
    return rows["top2_count"].to_numpy(), int(rows["n_tokens"].iloc[0])


@pytest.mark.parametrize(
    ("domain", "percent"),
    [
        ("github", [28.75, 26.77, 20.55, 18.47, 21.27, 33.21, 27.38, 23.59]),
        ("arxiv", [29.30, 25.20, 19.19, 12.23, 28.75, 29.28, 29.18, 26.88]),
    ],
)
def test_real_mixtral_selection_frequency_at_layer_15(domain, percent):
    counts, tokens = real_counts(15, domain)
    np.testing.assert_allclose(100 * metrics.selection_frequency(counts, tokens), percent, atol=0.005)


@pytest.mark.parametrize(
    ("layer", "domain", "expected"),
    [
        (15, "github", {"max_violation": 0.3284, "cv_squared": 0.03372, "normalized_entropy": 0.99194, "gini": 0.1035}),
        (15, "arxiv", {"max_violation": 0.1721, "cv_squared": 0.05374, "normalized_entropy": 0.98527, "gini": 0.1149}),
        (0, "github", {"max_violation": 0.2966, "cv_squared": 0.01435}),
        (0, "c4", {"max_violation": 0.1205, "cv_squared": 0.00935}),
    ],
)
def test_real_mixtral_balance(layer, domain, expected):
    counts, _ = real_counts(layer, domain)
    for name, value in expected.items():
        digits = 5 if name in ("cv_squared", "normalized_entropy") else 4
        assert getattr(metrics, name)(counts) == pytest.approx(value, abs=0.51 * 10**-digits), name


def test_real_mixtral_mmlu_max_violation():
    load = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_mmlu_load.csv", index_col="layer")
    violation = metrics.max_violation(load.to_numpy())
    assert violation.min() == pytest.approx(0.098, abs=5e-4)
    assert violation.mean() == pytest.approx(0.303, abs=5e-4)
    assert violation.max() == pytest.approx(0.632, abs=5e-4)
    assert violation.argmax() == 12
