"""Formulas on attention maps and on predictions, against hand computations and scipy."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from mixtral_probe import metrics

MAP = np.array([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]])


def test_entropy_distance_and_sink_of_each_query():
    # Rows by hand: one key; 1/4 and 3/4; 1/2, 1/4, 1/4.
    np.testing.assert_allclose(metrics.attention_entropy_bits(MAP), [0, 2 - 0.75 * np.log2(3), 1.5])
    np.testing.assert_allclose(metrics.attention_distance(MAP), [0, 0.25, 1.25])
    np.testing.assert_allclose(metrics.attention_sink_share(MAP), [1, 0.25, 0.5])


def test_formulas_keep_the_axes_before():
    maps = np.stack([MAP, MAP[::1]])[None].astype(np.float16)
    for formula in (metrics.attention_entropy_bits, metrics.attention_distance, metrics.attention_sink_share):
        assert formula(maps).shape == (1, 2, 3)
        np.testing.assert_allclose(formula(maps)[0, 1], formula(MAP), atol=2e-3)


def test_even_attention_has_the_closed_forms():
    even = metrics.even_attention(9)
    seen = np.arange(1, 10)
    np.testing.assert_allclose(metrics.attention_entropy_bits(even), np.log2(seen), atol=1e-12)
    np.testing.assert_allclose(metrics.attention_distance(even), (seen - 1) / 2)
    np.testing.assert_allclose(metrics.attention_sink_share(even), 1 / seen)


def test_maps_of_half_precision_are_summed_in_float64():
    size = 1024
    parts = np.random.default_rng(0).integers(1, 2048, (size, size)) * np.tri(size, dtype=int)
    maps = (parts / 2**14).astype(np.float16)  # exact: 11 bits
    place = np.arange(size)
    behind = (parts * np.maximum(place[:, None] - place, 0)).sum(-1) / 2**14
    np.testing.assert_allclose(metrics.attention_distance(maps), behind, rtol=1e-13)
    seen = np.where(parts > 0, parts, 1) / 2**14
    plain = -np.where(parts > 0, seen * np.log2(seen), 0).sum(-1)
    np.testing.assert_allclose(metrics.attention_entropy_bits(maps), plain, rtol=1e-13)


def test_rollout_of_two_layers_by_hand():
    first = np.array([[1.0, 0], [0.4, 0.6]])
    second = np.array([[1.0, 0], [0.2, 0.8]])
    # (A + I) / 2: rows [1, 0], [0.2, 0.8] and [1, 0], [0.1, 0.9]; second @ first by hand.
    np.testing.assert_allclose(metrics.attention_rollout([first], [0, 1]), [[1, 0], [0.2, 0.8]])
    np.testing.assert_allclose(metrics.attention_rollout([first, second], [1]), [[0.1 + 0.9 * 0.2, 0.9 * 0.8]])


def test_rollout_is_the_product_of_the_mixed_layers():
    maps = np.tril(np.random.default_rng(0).random((4, 7, 7)))
    maps /= maps.sum(-1, keepdims=True)
    product = np.linalg.multi_dot([(a + np.eye(7)) / 2 for a in maps[::-1]])
    np.testing.assert_allclose(metrics.attention_rollout(list(maps), range(7)), product)
    np.testing.assert_allclose(product.sum(-1), 1)


def test_attention_that_looks_only_at_itself_rolls_out_to_itself():
    np.testing.assert_array_equal(metrics.attention_rollout([np.eye(3)] * 5, [2]), [[0, 0, 1]])


def test_attended_share_by_hand():
    share = metrics.attended_share([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], [2, 0, 2], 3)
    np.testing.assert_allclose(share, [[0.25, 0, 0.75], [0.1, 0, 0.9]])
    # A key that went to no expert is left out.
    np.testing.assert_allclose(metrics.attended_share([0.5, 0.25, 0.25], [-1, 0, 1], 2), [0.5, 0.5])
    assert np.isnan(metrics.attended_share([1.0], [-1], 2)).all()


def test_difference_by_hand_in_two_buckets():
    # Bucket 0: values 1, 3 (mean 2), the first chose expert 0, both chose expert 1.
    # Bucket 1: values 10, 10, 40 (mean 20), the last chose expert 0, the first two expert 1.
    chosen_sum = [[1.0, 4.0], [40.0, 20.0]]
    chosen, total, tokens = [[1, 2], [1, 2]], [4.0, 60.0], [2, 3]
    # Expert 0: (1 - 2 + 40 - 20) / 2 = 9.5; expert 1: (4 - 4 + 20 - 40) / 4 = -5.
    np.testing.assert_allclose(metrics.attention_difference(chosen_sum, chosen, total, tokens), [9.5, -5])
    # Squares: 1 + 9 and 100 + 100 + 1600; within: 10 - 8 and 1800 - 1200.
    assert metrics.spread_within(total, [10.0, 1800.0], tokens) == pytest.approx(np.sqrt(602 / 5))


def test_a_choice_that_follows_position_alone_makes_no_difference():
    """All tokens of a bucket go to one expert: what differs is the bucket, and that is held constant."""
    total, tokens = np.array([4.0, 60.0]), np.array([2, 3])
    difference = metrics.attention_difference(np.diag(total), np.diag(tokens), total, tokens)
    np.testing.assert_array_equal(difference, [0, 0])


def test_no_tokens_are_nan_without_a_warning():
    assert np.isnan(metrics.attention_difference(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2), np.zeros(2))).all()
    assert np.isnan(metrics.spread_within(np.zeros(2), np.zeros(2), np.zeros(2)))


def test_predictions_are_those_of_scipy():
    logits = np.random.default_rng(1).normal(scale=4, size=(5, 11))
    other = np.random.default_rng(2).normal(scale=4, size=(5, 11))
    p, q = np.exp(log_softmax(logits, -1)), np.exp(log_softmax(other, -1))
    np.testing.assert_allclose(metrics.log_probabilities(logits), log_softmax(logits, -1))
    np.testing.assert_allclose(metrics.prediction_entropy_bits(logits), entropy(p, base=2, axis=-1))
    np.testing.assert_allclose(metrics.prediction_divergence_bits(logits, other), entropy(p, q, base=2, axis=-1))


def test_a_prediction_does_not_diverge_from_itself_and_minus_infinity_is_probability_0():
    logits = np.array([0.0, -np.inf, 0.0])
    assert metrics.prediction_entropy_bits(logits) == pytest.approx(1)
    assert metrics.prediction_divergence_bits(np.arange(4.0), np.arange(4.0)) == 0
