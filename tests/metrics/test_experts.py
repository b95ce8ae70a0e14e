"""Experts as functions: planted permutations are found, alignment is invariant, super experts and subsets by hand."""

from itertools import combinations

import numpy as np
import pytest
import torch

from mixtral_probe import metrics
from mixtral_probe.errors import InputError


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_cosines_are_those_of_torch():
    vectors = normal(3, 5, 7)
    a, b = (torch.from_numpy(vectors)[:, i] for i in (1, 4))
    np.testing.assert_allclose(metrics.cosine_similarity(vectors)[:, 1, 4], torch.cosine_similarity(a, b), rtol=1e-12)
    assert np.isnan(metrics.cosine_similarity([[0.0, 0.0], [1.0, 2.0]])[0]).all()


def test_a_permutation_of_neurons_is_found_and_raw_weights_do_not_show_it():
    neurons, order = normal(200, 90), np.random.default_rng(1).permutation(200)
    shuffled = neurons[order]
    np.testing.assert_array_equal(order[metrics.align_neurons(neurons, shuffled)], np.arange(200))
    aligned, tau = metrics.aligned_cosine(neurons, shuffled)
    assert aligned == pytest.approx(1, abs=1e-12)
    assert abs(tau) < 0.2
    flat = np.stack([neurons, shuffled]).reshape(2, -1)
    assert abs(metrics.cosine_similarity(flat)[0, 1]) < 0.05
    assert metrics.neuron_mean_cosine(np.stack([neurons, shuffled]))[0, 1] == pytest.approx(1)
    assert metrics.aligned_cosine(neurons, neurons) == (pytest.approx(1), pytest.approx(1))


def test_aligning_strangers_gives_more_than_nothing():
    chance = metrics.chance_aligned_cosine(64, 30)
    assert 0.2 < chance < 0.6
    assert metrics.aligned_cosine(normal(64, 30, seed=7), normal(64, 30, seed=8))[0] == pytest.approx(chance, abs=0.05)


def test_angular_similarity_by_hand():
    np.testing.assert_allclose(metrics.angular_similarity([1, 0, -1, 0.5]), [1, 0.5, 0, 2 / 3])


def test_cka_is_blind_to_rotation_scale_and_shift():
    x = normal(40, 6)
    q, _ = np.linalg.qr(normal(6, 6, seed=1))
    cka = metrics.linear_cka([x, 3 * x @ q + 5, normal(40, 6, seed=2)])
    assert cka[0, 1] == pytest.approx(1)
    assert cka[0, 2] < 0.6
    skewed = metrics.linear_cka([x, x * [10, 1, 1, 1, 1, 1]])
    assert skewed[0, 1] < 0.9  # not to any linear map


def test_cka_is_the_published_formula():
    x, y = normal(30, 4), normal(30, 4, seed=3)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert metrics.linear_cka([x, y])[0, 1] == pytest.approx(expected)


def test_cka_of_shuffled_tokens_is_its_mean_over_shuffles():
    x, y, draw = normal(12, 3), normal(12, 3, seed=3), np.random.default_rng(0)
    shuffles = [metrics.linear_cka([x, y[draw.permutation(12)]])[0, 1] for _ in range(4000)]
    spread = np.std(shuffles) / np.sqrt(len(shuffles))
    assert metrics.shuffled_linear_cka([x, y])[0, 1] == pytest.approx(np.mean(shuffles), abs=4 * spread)


def test_pair_correlation_is_that_of_the_upper_triangle():
    a, b = (m + m.T for m in (normal(5, 5), normal(5, 5, seed=1)))
    above = np.triu_indices(5, 1)
    assert metrics.pair_correlation(a, b) == pytest.approx(np.corrcoef(a[above], b[above])[0, 1])


def test_saliency_of_experts_of_constant_size():
    length, gate, tokens = np.array([2.0, 5.0, 1.0]), np.array([0.25, 0.5, 1.0]), np.array([4, 2, 0])
    np.testing.assert_allclose(metrics.expert_activation_norm(length * tokens, tokens), [2, 5, np.nan])
    np.testing.assert_allclose(metrics.reap_saliency(gate * length * tokens, tokens), [0.5, 2.5, np.nan])


def test_a_super_expert_is_large_and_in_a_layer_that_forms_massive_activations():
    largest = np.abs(normal(32, 8)) + 1
    largest[1, 3] = 1000
    assert metrics.super_expert_threshold(largest) == 100
    forming = np.arange(32) == 1
    np.testing.assert_array_equal(np.argwhere(metrics.super_experts(largest, forming)), [[1, 3]])
    assert not metrics.super_experts(largest, np.zeros(32, bool)).any()
    np.testing.assert_array_equal(metrics.is_massive([90, 500, 500], [0.01, 0.4, 0.6]), [False, True, False])


def test_there_are_28_pairs_and_70_fours_of_8_experts():
    pairs, fours = metrics.expert_subsets(8, [2]), metrics.expert_subsets(8, [4])
    assert (len(pairs), len(fours)) == (28, 70)
    assert [tuple(np.flatnonzero(mask)) for mask in fours] == list(combinations(range(8), 4))
    assert len(metrics.expert_subsets(8, [2, 4])) == 98


@pytest.mark.parametrize(("sizes", "sentence"), [([9], "1 to 8, got 9"), ([0], "1 to 8, got 0")])
def test_sizes_that_no_subset_has(sizes, sentence):
    with pytest.raises(InputError, match=sentence):
        metrics.expert_subsets(8, sizes)


def test_too_many_subsets():
    with pytest.raises(InputError, match="at most 10,000 subsets can be tried, got 635,376 of 64 experts"):
        metrics.expert_subsets(64, [4])


def test_what_a_subset_loses_is_that_of_masked_routing():
    logits, outputs = normal(20, 5), normal(5, 20, 3)

    def layer(z):
        top = torch.from_numpy(z).topk(2)
        weights = top.values.softmax(-1).numpy()
        return (weights[..., None] * outputs[top.indices.numpy(), np.arange(20)[:, None]]).sum(1)

    kept = np.array([True, True, False, True, False])
    whole, part = layer(logits), layer(np.where(kept, logits, -np.inf))
    expected = np.linalg.norm(part - whole) / np.linalg.norm(whole)
    assert metrics.subset_error(logits, outputs, kept, chosen=2) == pytest.approx(expected)
    assert metrics.subset_error(logits, outputs, np.ones(5, bool), chosen=2) == 0
    alone = np.arange(5) == 2
    expected = np.linalg.norm(outputs[2] - whole) / np.linalg.norm(whole)
    assert metrics.subset_error(logits, outputs, alone, chosen=2) == pytest.approx(expected)


def test_places_in_both_orders_by_hand():
    counts = metrics.rank_counts(norms=[[3, 1, 2], [1, 2, 3]], logits=[[0.5, 0.1, 0.2], [9, 5, 1]])
    np.testing.assert_array_equal(counts, [[1, 0, 1], [0, 2, 0], [1, 0, 1]])
