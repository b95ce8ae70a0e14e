"""Balance, overlap and log odds in the other forms that papers give them: hand-computed and published values."""

import numpy as np
import pytest
from scipy import stats as distributions

from mixtral_probe import metrics, tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import collapsed, fixed_trace, pick, random_trace

PAIR = np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0])
EVEN = np.full(8, 1 / 8)


def test_effective_experts_of_simpson():
    assert metrics.inverse_simpson(PAIR * 90) == 2
    assert metrics.inverse_simpson(EVEN) == 8
    assert metrics.inverse_simpson([3, 1]) == pytest.approx(16 / 10)
    assert np.isnan(metrics.inverse_simpson([0, 0]))


def test_chi_squared_of_one_choice_is_that_of_scipy_and_of_two_has_its_distribution():
    counts = np.array([10, 20, 30, 41])
    assert metrics.load_chi_squared(counts, [101]) == pytest.approx(distributions.chisquare(counts).statistic)
    assert metrics.load_chi_squared([5, 5], [0, 5]) == 0
    rng = np.random.default_rng(0)
    chosen = rng.random((2000, 400, 8)).argsort(-1)[..., :2].reshape(2000, -1)
    drawn = np.array([np.bincount(row, minlength=8) for row in chosen])
    values = metrics.load_chi_squared(drawn, [0, 400])
    assert values.mean() == pytest.approx(7, abs=3 * np.sqrt(14 / 2000))
    assert distributions.kstest(values, distributions.chi2(7).cdf).pvalue > 0.01


def test_gshard_and_device_losses_by_hand():
    assert metrics.gshard_loss(EVEN, EVEN) == pytest.approx(1 / 64)
    assert metrics.gshard_loss(np.eye(8)[0], PAIR) == pytest.approx(0.5 / 8)
    for ranks in (1, 2, 4, 8):
        assert metrics.device_balance_loss(EVEN, EVEN, ranks) == pytest.approx(1)
    # Both experts are on the first device: of 4 devices it has all, of 8 each has half.
    assert [metrics.device_balance_loss(PAIR, PAIR, ranks) for ranks in (1, 2, 4, 8)] == [1, 2, 4, 4]
    rng = np.random.default_rng(1)
    f, p = rng.dirichlet(np.ones(8), (2, 5))
    assert metrics.device_balance_loss(f, p, 8) == pytest.approx(metrics.load_balancing_loss(f, p))


def test_uniform_top_2_of_8_in_other_forms():
    """Of 28 sets 15, 12 and 1 have 0, 1 and 2 experts in common with a given one."""
    assert metrics.uniform_sets(metrics.set_jaccard, 8, 2, 2) == pytest.approx(5 / 28)
    assert metrics.uniform_sets(metrics.set_hamming, 8, 2, 2) == pytest.approx(3)
    assert metrics.uniform_sets(metrics.set_overlap, 8, 2, 2) == pytest.approx(1 / 4)
    assert metrics.uniform_sets(metrics.same_set, 8, 2, 2) == pytest.approx(1 / 28)
    assert metrics.uniform_sets(metrics.set_jaccard, 3, 3, 3) == 1


def test_sets_of_different_sizes_by_hand():
    common, one, other = 1, 1, 2  # {0} and {0, 1}
    assert metrics.set_overlap(common, one, other) == 1 / 2
    assert metrics.set_jaccard(common, one, other) == 1 / 2
    assert metrics.set_hamming(common, one, other) == 1
    assert metrics.same_set(common, one, other) == 0
    assert metrics.same_set(1, 1, 1) == metrics.set_overlap(1, 1, 1) == 1


def test_buddies_of_two_choices_are_the_conditional():
    pairs = np.array([[0, 3, 1], [3, 0, 0], [1, 0, 0]])
    assert metrics.buddy_share(pairs) == pytest.approx(metrics.coactivation_conditional(pairs, pairs.sum(-1)))
    assert metrics.buddy_share(pairs)[0] == pytest.approx([0, 0.75, 0.25])


def test_log_odds_by_hand():
    # 8 of the type's 10 tokens among the expert's 50 of 100: (8 + 10) / (50 + 100 - 18) against (2 + 10) / (150 - 12).
    z = (np.log(18 / 132) - np.log(12 / 138)) / np.sqrt(1 / 18 + 1 / 12)
    found = metrics.token_log_odds([[8, 2]], [10], [50, 50], 100, prior=100)
    assert found == pytest.approx(np.array([[z, -z]]))
    assert metrics.token_log_odds([[5, 5]], [10], [50, 50], 100, prior=7) == pytest.approx(np.zeros((1, 2)))
    assert np.isnan(metrics.token_log_odds([[10, 0]], [10], [100, 0], 100, prior=7)).all()


def test_lookup_learns_from_the_other_blocks_alone():
    swap, stay = 10 * np.eye(3)[[1, 2, 0]], 10 * np.eye(3)
    assert [part.sum() for part in metrics.lookup_hits([swap, swap])] == [60, 20, 60]
    assert metrics.lookup_hits([swap, stay])[0].sum() == 0
    assert metrics.lookup_hits([swap])[2].sum() == 0


def test_documents_each_collapsed_on_other_experts():
    ids, logits = collapsed([(0, 1), (2, 3), (4, 5), (6, 7)], 10)
    trace = fixed_trace(ids.reshape(1, 40, 2), logits.reshape(1, 40, 8), np.repeat(np.arange(4), 10))
    stats = RoutingStats.from_trace(trace)
    values = tables.balance_variants(stats).set_index("metric")["value"]
    assert values["load_balancing_loss_sequence"] == pytest.approx(4)
    assert values["max_violation_batch"] == pytest.approx(3)
    assert values[["inverse_simpson", "load_chi_squared", "importance_cv_squared"]].tolist() == pytest.approx([8, 0, 0])
    loss = pick(tables.balance_loss(stats), metric="load_balancing_loss")["value"]
    assert loss.item() == pytest.approx(1)


def test_all_tokens_on_two_experts():
    stats = RoutingStats.from_trace(fixed_trace(*collapsed([(0, 1)], 12)))
    values = tables.balance_variants(stats).set_index("metric")["value"]
    assert values["importance_cv_squared"] == pytest.approx(3)
    assert values["load_balancing_loss_gshard"] == pytest.approx(0.5 / 8)
    assert values["load_chi_squared"] == pytest.approx(7 / 6 * 12 * (2 * 9**2 + 6 * 3**2) / 36)


def test_relevance_counts_documents_alike():
    ids = np.array([[0, 1]] * 9 + [[0, 2]])[None]
    logits = np.full((1, 10, 4), -1e4)
    np.put_along_axis(logits, ids, [0.0, 0.0], axis=-1)
    stats = RoutingStats.from_trace(fixed_trace(ids, logits, [0] * 9 + [1]))
    table = tables.expert_relevance(stats)
    for metric in tables.TABLES["expert_relevance"].metrics:
        assert pick(table, metric=metric)["value"].tolist() == pytest.approx([0.5, 0.25, 0.25, 0])


def test_the_interval_of_a_mean_of_documents_is_that_of_t():
    stats = RoutingStats.from_trace(random_trace(documents=6, layers=1))
    row = pick(tables.balance_variants(stats), metric="max_violation_batch").iloc[0]
    own = metrics.max_violation(stats.sums.counts[0, 0])
    low, high = distributions.t.interval(0.95, 5, own.mean(), own.std(ddof=1) / np.sqrt(6))
    assert (row["value"], row["low"], row["high"]) == pytest.approx((own.mean(), max(low, 0), high))


def test_a_device_that_has_all_tokens():
    stats = RoutingStats.from_trace(fixed_trace(*collapsed([(0, 1)], 12)))
    table = pick(tables.placement_simulation(stats, ranks=[2, 4, 8]), metric="load_balancing_loss_device")
    assert table["value"].tolist() == pytest.approx([2, 4, 4])
    # all 12 tokens choose with the whole of their probability: q = 1
    expected = [8 / m * (1 + (m - 1) / 7 + 11 * 2 * m / 8) / (2 * 12) for m in (4, 2, 1)]
    assert table["null"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("recorded", ["weights", "logits"])
def test_skipped_experts_by_hand(recorded):
    ids = np.tile([0, 1], (1, 4, 1))
    ratios = np.array([0.05, 0.2, 0.6, 1.0])
    logits = np.full((1, 4, 3), -50.0)
    logits[0, :, 0], logits[0, :, 1] = 0.0, np.log(ratios)
    weights = np.stack([1 / (1 + ratios), ratios / (1 + ratios)], -1)[None]
    trace = Trace.from_arrays(
        expert_ids=ids,
        router_logits=logits.astype(np.float32) if recorded == "logits" else None,
        expert_weights=weights.astype(np.float32) if recorded == "weights" else None,
        num_experts=3,
    )
    table = tables.skipping_simulation(trace, thresholds=[0.1, 0.5, 1.0])
    shares = pick(table, layer=0, metric="skipped_share")
    assert shares["value"].tolist() == [0.25, 0.5, 0.75]
    assert pick(table, layer=0, metric="weight_ratio")["value"].item() == pytest.approx(ratios.mean())
    with pytest.raises(InputError, match=r"must be in \[0, 1\] \(a ratio of two weights\), got \[2\]"):
        tables.skipping_simulation(trace, thresholds=[2])


def test_experts_chosen_by_the_token_before():
    rng = np.random.default_rng(3)
    token = rng.integers(0, 4, 4000)
    ids = np.concatenate([[0], token[:-1]])[None, :, None]
    trace = Trace.from_arrays(expert_ids=ids, token_ids=token, num_experts=4)
    table = pick(tables.context_information(trace), metric="mutual_information_bits_corrected", min_count=1)
    table = table.set_index("variable")
    counts = np.bincount(token[:-1], minlength=4)
    entropy = distributions.entropy(counts, base=2)
    assert table.loc["previous token", "value"] == pytest.approx(entropy, abs=0.005)
    assert table.loc["previous token|token", "value"] == pytest.approx(entropy, abs=0.01)
    for variable in ("token", "next token"):
        assert table.loc[variable, "value"] == pytest.approx(0, abs=0.005)
    assert set(table["n"].drop("predicted token")) == {3999}
    assert "not enough data" in table.loc["predicted token", "scope"]


def test_neighbours_tell_what_the_stored_counts_tell():
    rng = np.random.default_rng(5)
    trace = random_trace(
        tokens=500, documents=5, token_ids=rng.zipf(1.5, 500) % 40, predicted_id=rng.integers(0, 9, 500)
    )
    found = pick(tables.context_information(trace), metric="mutual_information_bits", min_count=1, group="all")
    stored = tables.mutual_information(RoutingStats.from_trace(trace))
    for variable in ("next token", "predicted token"):
        own, other = (pick(table, variable=variable, metric="mutual_information_bits") for table in (found, stored))
        np.testing.assert_allclose(own["value"], other["value"], rtol=1e-10)
        np.testing.assert_array_equal(own["n"], other["n"])


def test_shuffles_give_the_bias_of_miller_and_madow():
    rng = np.random.default_rng(4)
    token, ids = rng.integers(0, 40, 20_000), rng.random((20_000, 8)).argsort(-1)[None, :, :2]
    trace = Trace.from_arrays(expert_ids=ids, token_ids=token, num_experts=8)
    table = pick(tables.context_information(trace), metric="mutual_information_bits", min_count=1).set_index("variable")
    # (R - 1)(E - K) / (2 K T ln 2) with R = 40
    assert table.loc["previous token", "null"] == pytest.approx(39 * 6 / (4 * 20_000 * np.log(2)), rel=0.15)
    assert table.loc["token", "value"] == pytest.approx(39 * 6 / (4 * 20_000 * np.log(2)), rel=0.3)
