"""Mutual information and Cramér's V: published values of Mixtral, scipy, known answers, bias by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import contingency, entropy

from mixtral_probe import metrics
from mixtral_probe.resources import data_path


def test_information_of_experts_about_domains_is_that_of_the_published_counts():
    counts = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_domain_counts.csv")
    for layer, expected in ((0, 0.003144), (15, 0.008953)):
        joint = counts[counts["layer"] == layer].pivot(index="domain", columns="expert", values="top2_count")
        assert metrics.mutual_information_bits(joint) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("layers", "bits", "v"), [((0, 7), 0.08654, 0.1353), ((7, 15), 0.14224, 0.1739)])
def test_information_between_layers_is_that_of_the_published_counts(layers, bits, v):
    counts = pd.read_csv(data_path("real_mixtral") / "mixtral_8x7b_crosslayer_top1.csv").query("domain == 'c4'")
    own = counts[(counts["from_layer"] == layers[0]) & (counts["to_layer"] == layers[1])]
    joint = own.pivot(index="from_expert", columns="to_expert", values="count").to_numpy()
    assert metrics.mutual_information_bits(joint) == pytest.approx(bits, abs=5e-6)
    assert metrics.cramers_v(joint) == pytest.approx(v, abs=5e-5)
    assert metrics.cramers_v(joint) == pytest.approx(contingency.association(joint, method="cramer"))


def test_deterministic_routing():
    joint = np.diag([3, 1, 4])
    assert metrics.mutual_information_bits(joint) == pytest.approx(entropy([3, 1, 4], base=2))
    assert metrics.cramers_v(joint) == pytest.approx(1)
    # Two experts per token, each with weight 1/2: H(E) - log2 K.
    pair = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]) * 5
    assert metrics.mutual_information_bits(pair) == pytest.approx(2 - 1)


def test_nothing_to_tell():
    assert metrics.mutual_information_bits(np.outer([1, 2, 3], [4, 5])) == pytest.approx(0, abs=1e-15)
    assert np.isnan(metrics.mutual_information_bits(np.zeros((2, 3))))
    assert np.isnan(metrics.mutual_information_bias(np.zeros((2, 3))))
    assert np.isnan(metrics.cramers_v([[3, 2], [0, 0]]))
    assert np.isnan(metrics.independent_cramers_v([[3, 2], [0, 0]]))


def test_bias_of_one_choice_is_that_of_miller_and_madow():
    assert metrics.mutual_information_bias(np.ones((4, 6))) == pytest.approx(3 * 5 / (2 * 24 * np.log(2)))


def test_bias_of_top_2_of_8_is_smaller_than_one_choice_would_have():
    rng = np.random.default_rng(0)
    tokens, values, found = 4000, 40, []
    for _ in range(25):
        ids = rng.random((tokens, 8)).argsort(-1)[:, :2]
        joint = np.zeros((values, 8))
        np.add.at(joint, (np.repeat(rng.integers(0, values, tokens), 2), ids.ravel()), 1)
        found.append(metrics.mutual_information_bits(joint))
    formula = 39 * 6 / (2 * 2 * tokens * np.log(2))
    exclusion = metrics.choice_exclusion([0, tokens], 8)
    assert metrics.mutual_information_bias(joint, exclusion=exclusion) == pytest.approx(formula)
    assert np.mean(found) == pytest.approx(formula, rel=0.04)


def choices_of(rng, number, load):
    """[E] 0 or 1: `number` different experts drawn one after another with these loads."""
    drawn = rng.choice(len(load), number, replace=False, p=load / load.sum())
    return np.bincount(drawn, minlength=len(load))


def test_bias_where_tokens_choose_different_numbers_of_experts():
    """Three in four tokens choose 1 of 4 experts, the others 3, in both layers: 0.65 of what 1 each would vary."""
    rng, load, bias, pairs_bias, found = np.random.default_rng(3), np.ones(4), [], [], []
    for _ in range(150):
        number = np.where(rng.random(240) < 0.75, 1, 3)
        first, second = (np.array([choices_of(rng, size, load) for size in number]) for _ in range(2))
        position = np.eye(6)[rng.integers(0, 6, 240)]
        joint, pairs = position.T @ first, first.T @ second
        choices = np.bincount(number, minlength=4)[1:]
        exclusion, of_pairs = metrics.choice_exclusion(choices, 4), metrics.pair_exclusion(np.diag(choices), 4)
        bias.append(metrics.mutual_information_bias(joint, exclusion=exclusion))
        pairs_bias.append(metrics.mutual_information_bias(pairs, exclusion=of_pairs))
        found.append([metrics.mutual_information_bits(joint), metrics.mutual_information_bits(pairs)])
    assert np.mean(found, 0) == pytest.approx([np.mean(bias), np.mean(pairs_bias)], rel=0.06)


def test_exclusion_by_hand():
    """1 of 4 experts excludes nothing, 2 leave 2/3 and 3 leave 1/3, each counted as often as it is chosen."""
    assert metrics.choice_exclusion([5, 0, 0], 4) == 1
    assert metrics.choice_exclusion([0, 0, 2], 4) == pytest.approx(1 / 3)
    assert metrics.choice_exclusion([3, 0, 1], 4) == pytest.approx((3 * 1 + 3 / 3) / 6)
    pairs = np.array([[3, 0, 2], [0, 0, 0], [0, 0, 1]])  # 3 choices of 1 with 1, 6 of 1 with 3, 9 of 3 with 3
    assert metrics.pair_exclusion(pairs, 4) == pytest.approx((3 + 6 / 3 + 9 / 9) / 18)
    assert np.isnan(metrics.choice_exclusion([0, 0], 4))
    assert metrics.choice_exclusion([7], 1) == 0


def test_conditional_information_separates_topic_from_lexicon():
    # Two tokens, two domains; the expert follows the token, and the domain the token, but nothing beyond.
    by_token = np.array([[[6, 0], [2, 0]], [[0, 1], [0, 5]]])  # [token, domain, expert]
    assert metrics.mutual_information_bits(by_token.sum(0)) > 0.2
    assert metrics.conditional_mutual_information_bits(by_token) == pytest.approx(0, abs=1e-15)
    # One token of two: bits 1 within it, nothing in the other.
    topic = np.array([[[4, 0], [0, 4]], [[2, 2], [2, 2]]])
    assert metrics.conditional_mutual_information_bits(topic) == pytest.approx(0.5)
    assert metrics.conditional_mutual_information_bias(topic) == pytest.approx(
        metrics.mutual_information_bias(topic).mean()
    )


def test_v_of_independent_choices_is_as_expected():
    rng = np.random.default_rng(1)
    joints = rng.multinomial(500, np.full(64, 1 / 64), size=200).reshape(-1, 8, 8)
    squares = np.square(metrics.cramers_v(joints))
    assert squares.mean() == pytest.approx(np.square(metrics.independent_cramers_v(joints)).mean(), rel=0.05)


def test_enough_tokens_fill_every_cell_five_times():
    assert metrics.enough_tokens(8) == 40
    assert metrics.enough_tokens(8, 2) == 20
    assert metrics.enough_tokens(3, 2) == 8
