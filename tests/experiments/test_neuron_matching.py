"""Pairing neurons greedily: its bound against exact assignments of scipy, planted permutations, what is said of it."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mixtral_probe import Probe, tables
from mixtral_probe.experiments import neuron_matching
from mixtral_probe.experiments.neuron_matching import chance_cosine, greedy_assignment, match_neurons, matching_method
from mixtral_probe.trace import Result
from tests.support.models import toy_model
from tests.support.routing import pick


def normal(rows, size, seed=0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def sums(values):
    """The sum of the values that each assignment takes: the greedy one, and the largest there is."""
    n, order = np.arange(len(values)), greedy_assignment(torch.from_numpy(values)).numpy()
    assert sorted(order) == list(n)
    return values[n, order].sum(), values[linear_sum_assignment(values, maximize=True)].sum()


@pytest.fixture
def greedy(monkeypatch):
    monkeypatch.setattr(neuron_matching, "EXACT_NEURONS", 4)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 40])
def test_a_greedy_sum_is_at_least_half_of_the_largest(size):
    draw = np.random.default_rng(size)
    for number in range(60):
        values = draw.random((size, size)) ** draw.choice([0.1, 1, 8])
        values = values.round(1) if number % 3 == 0 else values  # with equal values
        found, best = sums(values)
        assert best / 2 - 1e-12 <= found <= best + 1e-12


def test_the_bound_is_reached_by_a_trap():
    found, best = sums(np.array([[1.0, 1 + 1e-9], [0.0, 1.0]]))
    assert found / best == pytest.approx(0.5)


def test_with_negative_values_the_bound_is_that_of_the_positive_ones():
    draw = np.random.default_rng(0)
    for _ in range(100):
        values = draw.normal(size=(7, 7)) - 0.5
        order = greedy_assignment(torch.from_numpy(values)).numpy()
        best = np.maximum(values, 0)[linear_sum_assignment(np.maximum(values, 0), maximize=True)].sum()
        assert np.maximum(values[np.arange(7), order], 0).sum() >= best / 2 - 1e-12


def test_it_takes_the_largest_value_that_is_left_again_and_again():
    values = np.random.default_rng(3).normal(size=(30, 30))
    left, expected = values.copy(), np.empty(30, int)
    for _ in range(30):
        row, column = np.unravel_index(np.nanargmax(left), left.shape)
        expected[row] = column
        left[row], left[:, column] = np.nan, np.nan
    np.testing.assert_array_equal(greedy_assignment(torch.from_numpy(values)).numpy(), expected)


def test_equal_values_end_too():
    assert sorted(greedy_assignment(torch.zeros(9, 9)).tolist()) == list(range(9))


def test_neurons_of_unrelated_experts_come_close_to_the_best_assignment(greedy):
    one, other = normal(300, 90), normal(300, 90, seed=1)
    found = match_neurons(one, other)
    cosines = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1).numpy()
    best = cosines[linear_sum_assignment(cosines, maximize=True)].mean()
    assert 0.95 * best < found.cosine < best
    assert best < found.bound == pytest.approx(min(cosines.max(0).mean(), cosines.max(1).mean()), rel=1e-5)
    assert abs(found.tau) < 0.15
    assert chance_cosine(300, 90, torch.device("cpu")) == pytest.approx(found.cosine, rel=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_planted_permutation_is_recovered(greedy, noise):
    neurons, order = normal(500, 192), torch.from_numpy(np.random.default_rng(1).permutation(500))
    twin = torch.empty_like(neurons)
    twin[order] = neurons + noise * normal(500, 192, seed=2)  # neuron i lies at order[i]
    unit = torch.nn.functional.normalize
    np.testing.assert_array_equal(greedy_assignment(unit(neurons) @ unit(twin).T), order)
    found = match_neurons(neurons, twin)
    assert found.cosine == pytest.approx((1 + noise**2) ** -0.5, abs=0.01)
    assert found.bound == pytest.approx(found.cosine, abs=1e-6)


def test_few_neurons_are_paired_by_the_best_assignment():
    one, other = normal(50, 30), normal(50, 30, seed=1)
    cosines = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1).double().numpy()
    best = cosines[linear_sum_assignment(cosines, maximize=True)].mean()
    found = match_neurons(one, other)
    assert (found.cosine, found.bound) == (pytest.approx(best, rel=1e-6), pytest.approx(best, rel=1e-6))
    assert [matching_method(neurons) for neurons in (1, 2048, 2049, 14336)] == ["exact", "exact", "greedy", "greedy"]


def test_a_neuron_of_zeros_is_like_no_other(greedy):
    one, other = normal(6, 9), normal(6, 9, seed=1)
    one[2] = 0
    assert np.isfinite(match_neurons(one, other).cosine)


def test_result_and_table_say_how_neurons_were_paired(tokenizer, tmp_path, greedy):
    probe = Probe(toy_model(vocab_size=8192, num_local_experts=3, num_experts_per_tok=2), tokenizer, "toy")
    result = probe.similarity()
    assert result.alignment == "greedy"
    table = tables.expert_similarity(Result.load(result.save(tmp_path / "result")))
    row = pick(table, layer=1, expert=0, other_expert=2, metric="aligned_cosine").iloc[0]
    assert result.aligned_cosine[1, 0, 2] == row["value"] <= result.aligned_cosine_bound[1, 0, 2]
    assert row["scope"].endswith(
        "neurons by greedy assignment: the sum of cosines above 0 is at least half of the largest possible; "
        f"no assignment has a mean above {result.aligned_cosine_bound[1, 0, 2]:.4f}"
    )
    assert "assignment" not in pick(table, metric="weight_cosine")["scope"].iloc[0]


def test_of_few_neurons_they_say_the_best(tokenizer):
    probe = Probe(toy_model(vocab_size=8192, num_local_experts=3, num_experts_per_tok=2), tokenizer, "toy")
    result = probe.similarity()
    assert result.alignment == "exact"
    np.testing.assert_array_equal(result.aligned_cosine_bound, result.aligned_cosine)
    scopes = pick(tables.expert_similarity(result), metric="aligned_cosine")["scope"]
    assert scopes.str.endswith("; neurons by the best assignment").all()


def test_sums_of_weights_in_blocks_are_those_of_all(tokenizer, monkeypatch):
    import mixtral_probe.experiments.similarity as module

    probe = Probe(toy_model(vocab_size=8192), tokenizer, "toy")
    whole = probe.similarity(align=False)
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 12 * 3 * 24 * 3)  # three neurons at a time
    for name, values in probe.similarity(align=False).arrays.items():
        np.testing.assert_allclose(values, whole[name], atol=1e-12)
    experts = probe.model.model.layers[1].block_sparse_moe.experts
    flat = torch.cat([experts.gate_up_proj.flatten(1), experts.down_proj.flatten(1)], dim=1).detach()
    expected = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=-1)
    np.testing.assert_allclose(whole.weight_cosine[1], expected, atol=1e-6)
