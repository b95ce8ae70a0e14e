"""Repetition, co-activation and transitions: synthetic inputs with known answers, nulls, intervals, gaps."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t as student

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace


def stats_of(ids, by=None, **more):
    return RoutingStats.from_trace(Trace.from_arrays(expert_ids=np.asarray(ids), **{"num_experts": 8, **more}), by=by)


def uniform(tokens, seed=0, layers=1):
    return np.random.default_rng(seed).random((layers, tokens, 8)).argsort(-1)[..., :2]


@pytest.fixture(scope="module")
def even():
    """20,000 tokens of uniform top-2 of 8 in 20 documents, 2 layers that know nothing of each other."""
    return stats_of(uniform(20000, layers=2), document=np.repeat(range(20), 1000))


def test_uniform_routing_repeats_by_chance(even):
    table = tables.repetition(even)
    assert sorted(set(table["lag"])) == list(range(1, 9))
    for name, chance in (("repetition_first", 0.125), ("repetition_any", 13 / 28), ("overlap", 0.25)):
        for suffix, error in (("", 0.016), ("_shuffled", 2e-3)):
            own = pick(table, metric=name + suffix)
            np.testing.assert_allclose(own["value"], chance, atol=error)
            np.testing.assert_allclose(own["null"], chance, atol=1e-3)
            assert own["scope"].str.contains(f"uniform routing {chance:.4g}").all()
    plain = pick(table, metric="overlap")
    assert ((plain["low"] < 0.25) & (0.25 < plain["high"])).mean() > 0.7
    assert pick(table, metric="overlap", lag=3, layer=0)["n"].item() == 20 * 997


def test_overlap_is_distributed_as_two_draws_without_replacement(even):
    shared = even.structure.repeats.sum((0, 1, 2, 3, 4))
    np.testing.assert_allclose(shared / shared.sum(), [15 / 28, 12 / 28, 1 / 28], atol=2e-3)


def test_a_copy_chain_forgets_with_its_rate():
    rng, rho, tokens = np.random.default_rng(3), 0.3, 200_000
    fresh, new = rng.integers(0, 8, tokens), rng.random(tokens) >= rho
    new[0] = True
    chain = fresh[np.maximum.accumulate(np.where(new, np.arange(tokens), 0))]
    table = tables.repetition(stats_of(chain[None, :, None], document=np.repeat(range(10), tokens // 10)))
    first = pick(table, metric="repetition_first")["value"].to_numpy()
    np.testing.assert_allclose(first[:3], [0.3875, 0.20375, 0.148625], atol=0.004)
    np.testing.assert_allclose(pick(table, metric="repetition_any")["value"], first)  # one choice: all the same
    np.testing.assert_allclose(pick(table, metric="repetition_first_shuffled")["value"], 0.125, atol=2e-3)


def test_documents_with_their_own_experts_repeat_even_when_shuffled():
    ids = np.repeat([[[0, 1]], [[2, 3]]], 50, axis=1).reshape(1, 100, 2)
    table = pick(tables.repetition(stats_of(ids, document=np.repeat(range(2), 50))), lag=1)
    found = table.set_index("metric")
    assert found.loc["repetition_first", "value"] == found.loc["repetition_first_shuffled", "value"] == 1
    assert found.loc["repetition_any_shuffled", "value"] == pytest.approx(1)
    assert found.loc["repetition_first", "null"] == 0.5
    assert found.loc["repetition_any", "null"] == found.loc["overlap", "null"] == 0.5


@pytest.mark.parametrize("documents", [20, 300])
def test_shuffled_repetition_of_all_is_the_same_with_and_without_groups(documents):
    trace = random_trace(documents=documents, tokens=6 * documents)
    plain, grouped = (tables.repetition(RoutingStats.from_trace(trace, by=by)) for by in (None, "domain"))
    grouped = pick(grouped, group="all").reset_index(drop=True)
    for column in ("value", "corrected", "low", "high", "null"):
        np.testing.assert_allclose(grouped[column], plain[column], rtol=1e-12, err_msg=column)


def test_a_lag_longer_than_every_window_has_no_value():
    table = tables.repetition(stats_of(uniform(12), document=np.repeat(range(4), 3)))
    gone = table[table["lag"] >= 3]
    assert gone["value"].isna().all()
    assert gone["scope"].str.contains("not enough data: no tokens that far apart").all()


def test_three_choices_have_their_own_chance_of_any_in_common():
    rng = np.random.default_rng(0)
    ids = rng.random((1, 20_000, 8)).argsort(-1)[..., :3]
    table = pick(tables.repetition(stats_of(ids, document=np.repeat(range(20), 1000))), lag=1).set_index("metric")
    even = 1 - (5 * 4 * 3) / (8 * 7 * 6)
    for name in ("repetition_any", "repetition_any_shuffled"):
        assert table.loc[name, "value"] == pytest.approx(even, abs=0.02)
        assert table.loc[name, "null"] == pytest.approx(even, abs=2e-3)
        assert "null: two tokens with these loads" in table.loc[name, "scope"]


def test_documents_with_their_own_three_experts_repeat_even_when_shuffled():
    ids = np.repeat([[[0, 1, 2]], [[3, 4, 5]]], 50, axis=1).reshape(1, 100, 3)
    table = pick(tables.repetition(stats_of(ids, document=np.repeat(range(2), 50))), lag=1).set_index("metric")
    assert table.loc["repetition_any_shuffled", "value"] == pytest.approx(1)
    assert table.loc["repetition_any", "null"] == pytest.approx(0.5)


def test_too_many_sets_have_the_uniform_null_for_any():
    table = tables.repetition(RoutingStats.from_trace(random_trace(experts=16, chosen=4)))
    any_ = pick(table, metric="repetition_any")
    np.testing.assert_allclose(any_["null"], 1 - (12 * 11 * 10 * 9) / (16 * 15 * 14 * 13))
    assert any_["scope"].str.contains("null: uniform routing").all()
    assert "repetition_any_shuffled" not in set(table["metric"])


def test_uniform_pairs_have_lift_four_sevenths_by_value_and_null(even):
    table = tables.coactivation(even)
    for name, value in (("conditional", 1 / 7), ("lift", 4 / 7), ("jaccard", 1 / 13)):
        own = pick(table, metric=f"coactivation_{name}")
        assert len(own) == 2 * 56
        np.testing.assert_allclose(own["value"], value, rtol=0.16)
        np.testing.assert_allclose(own["null"], value, rtol=0.04)


def test_pairs_that_like_each_other():
    ids = np.array([[[0, 1]] * 6 + [[0, 2]] * 2 + [[3, 2]] * 4])
    table = tables.coactivation(stats_of(ids, document=np.arange(12) % 1, num_experts=5))
    found = table.set_index(["expert", "other_expert", "metric"])
    assert found.loc[(0, 1, "coactivation_conditional"), "value"] == pytest.approx(6 / 8)
    assert found.loc[(1, 0, "coactivation_conditional"), "value"] == 1
    assert found.loc[(0, 2, "coactivation_jaccard"), "value"] == pytest.approx(2 / (8 + 6 - 2))
    assert found.loc[(0, 1, "coactivation_lift"), "value"] == pytest.approx(6 * 12 / (8 * 6))
    assert found.loc[(0, 1, "coactivation_conditional"), "n"] == 8
    assert found.loc[(0, 1, "coactivation_lift"), "null"] < 1.5
    dead = table[table["expert"] == 4]
    conditional = pick(dead, metric="coactivation_conditional")
    assert conditional["scope"].str.contains("not enough data: the expert was never chosen").all()
    assert pick(dead, metric="coactivation_jaccard", other_expert=0)["value"].item() == 0


def test_a_layer_that_renames_the_experts_of_the_one_before():
    rng = np.random.default_rng(0)
    first, renamed = rng.choice(8, 400, p=np.arange(1, 9) / 36), rng.permutation(8)
    ids = np.stack([first, renamed[first], rng.integers(0, 8, 400)])[..., None]
    table = tables.transitions(stats_of(ids, document=np.repeat(range(8), 50), moe_layers=(2, 5, 9)))
    assert set(zip(table["layer"], table["other_layer"], strict=True)) == {(2, 5), (5, 9)}
    here = pick(table, layer=2)
    probability = pick(here, metric="transition_probability")["value"].to_numpy().reshape(8, 8)
    np.testing.assert_array_equal(probability, np.eye(8)[renamed])
    share = np.bincount(first, minlength=8) / 400
    whole = pick(here, expert=None).set_index("metric")
    assert whole.loc["mutual_information_bits", "value"] == pytest.approx(-(share * np.log2(share)).sum())
    assert whole.loc["cramers_v", "value"] == pytest.approx(1)
    assert pick(here, metric="joint_share")["value"].sum() == pytest.approx(1)
    lift = pick(here, metric="transition_lift", expert=0, other_expert=int(renamed[0]))
    assert lift["value"].item() == pytest.approx(1 / share[0])
    beyond = pick(table, layer=5, expert=None).set_index("metric")
    assert beyond.loc["mutual_information_bits", "null"] == pytest.approx(49 / (2 * 400 * np.log(2)), rel=0.1)
    assert abs(beyond.loc["mutual_information_bits_corrected", "value"]) < 0.05
    assert beyond.loc["cramers_v", "value"] == pytest.approx(beyond.loc["cramers_v", "null"], rel=0.3)


def test_all_choices_of_a_layer_that_renames_the_experts():
    """Every pair of 8 experts as often: p = 1/16 for an expert and its new name, 1/112 for every other two."""
    rng = np.random.default_rng(0)
    sets, renamed = np.tile(list(combinations(range(8), 2)), (10, 1)), rng.permutation(8)
    sets = rng.permuted(sets, axis=1)
    table = tables.transitions(stats_of(np.stack([sets, renamed[sets]]), document=np.repeat(range(10), 28)))
    joint = pick(table, metric="joint_share_all_choices")["value"].to_numpy().reshape(8, 8)
    np.testing.assert_allclose(joint, np.where(np.eye(8)[renamed], 1 / 16, 1 / 112))
    to = pick(table, metric="transition_probability_all_choices")
    np.testing.assert_allclose(to["value"].to_numpy().reshape(8, 8), np.where(np.eye(8)[renamed], 1 / 2, 1 / 14))
    assert set(to["n"]) == {70}  # each expert stands in 7 of the 28 sets
    lift = pick(table, metric="transition_lift_all_choices")["value"].to_numpy().reshape(8, 8)
    np.testing.assert_allclose(lift, np.where(np.eye(8)[renamed], 4, 4 / 7))
    whole = pick(table, expert=None).set_index("metric")
    assert whole.loc["mutual_information_bits_all_choices", "value"] == pytest.approx(1 + np.log2(4 / 7) / 2)
    assert whole.loc["mutual_information_bits_all_choices", "n"] == 280


def test_chance_of_all_choices_is_what_independent_layers_give():
    """Without bias (E - K)^2 / (2 K^2 T ln 2) bits: .0065 for 1000 tokens, where first choices have .035."""
    found = [tables.transitions(stats_of(uniform(1000, seed, layers=2))) for seed in range(40)]
    for name in ("mutual_information_bits", "cramers_v"):
        rows = [pick(table, metric=f"{name}_all_choices").iloc[0] for table in found]
        assert np.mean([row["value"] for row in rows]) == pytest.approx(
            np.mean([row["null"] for row in rows]), rel=0.06
        )
    assert rows[0]["null"] == pytest.approx(np.sqrt(3**2 / 1000 / 7))
    bits = pick(found[0], metric="mutual_information_bits_all_choices").iloc[0]
    assert bits["null"] == pytest.approx(3**2 / (2 * 1000 * np.log(2)))


def test_one_choice_has_no_rows_of_all_choices():
    table = tables.transitions(stats_of(np.arange(24).reshape(2, 12, 1) % 8))
    assert not table["metric"].str.endswith("_all_choices").any()


def test_one_layer_alone_has_no_transitions():
    assert len(tables.transitions(RoutingStats.from_trace(random_trace(layers=1)))) == 0


def test_intervals_of_repetition_cover_documents_that_differ():
    """Each document copies with its own rate; the mean over documents of the truth is known."""
    covered = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rates = rng.uniform(0.1, 0.5, 16)
        new = rng.random((16, 200)) >= rates[:, None]
        new[:, 0] = True
        fresh = rng.integers(0, 8, (16, 200))
        chain = np.take_along_axis(fresh, np.maximum.accumulate(np.where(new, np.arange(200), 0), axis=1), 1)
        table = tables.repetition(stats_of(chain.reshape(1, -1, 1), document=np.repeat(range(16), 200)))
        row = pick(table, metric="repetition_first", lag=1).iloc[0]
        covered.append(row["low"] < 1 / 8 + 7 / 8 * 0.3 < row["high"])
    assert 0.83 <= np.mean(covered) <= 1


@pytest.mark.parametrize("documents", [2, 5])
def test_rows_of_a_seldom_chosen_expert_rest_on_the_documents_that_chose_it(documents):
    """Expert 7 is chosen in 2 or in 5 of 20 documents: five are enough, whatever the other fifteen did."""
    ids = uniform(2000, layers=2) % 7
    ids[..., 1] = (ids[..., 0] + 1 + ids[..., 1] % 6) % 7
    document = np.repeat(range(20), 100)
    ids[0, (document < documents) & (np.arange(2000) % 3 == 0), 0] = 7
    stats, enough = stats_of(ids, document=document), documents == 5
    for table, metric in (
        (tables.coactivation(stats), ["coactivation_conditional", "coactivation_buddy_share", "coactivation_lift"]),
        (tables.transitions(stats), ["transition_probability", "transition_lift"]),
    ):
        cells = table[table["layer"].eq(0) & table["metric"].isin(metric) & table["other_expert"].eq(0)]
        rare, common = cells[cells["expert"].eq(7)], cells[cells["expert"].eq(1)]
        assert rare["low"].notna().all() if enough else rare["low"].isna().all()
        assert enough or rare["scope"].str.endswith("2 documents: no interval below 5").all()
        assert common["low"].notna().all()


def test_a_share_of_all_tokens_rests_on_all_documents():
    """Documents of 100 tokens each, which choose expert 7 in 5 of 20 documents only: the mean of 20 shares."""
    ids = uniform(2000, layers=2)[..., :1] % 7
    document = np.repeat(range(20), 100)
    ids[0, (document < 5) & (np.arange(2000) % 3 == 0), 0] = 7
    table = tables.transitions(stats_of(ids, document=document))
    for other in range(7):
        row = pick(table, layer=0, metric="joint_share", expert=7, other_expert=other).iloc[0]
        share = ((ids[0, :, 0] == 7) & (ids[1, :, 0] == other)).reshape(20, 100).mean(1)
        half = student.ppf(0.975, 19) * share.std(ddof=1) / np.sqrt(20)
        numbers = row[["value", "corrected", "low", "high"]].to_list()
        assert numbers == pytest.approx([share.mean(), share.mean(), max(share.mean() - half, 0), share.mean() + half])


def with_a_rare_expert(rng, documents):
    """Documents of 60 tokens, of which 45 in 100 use expert 3, each as often as its taste says."""
    owner = np.repeat(np.arange(documents), 60)
    taste = np.where(rng.random(documents) < 0.45, rng.beta(2, 4, documents), 0)
    first = np.where(rng.random(len(owner)) < taste[owner], 3, rng.integers(0, 3, len(owner)))
    second = np.where(rng.random(len(owner)) < 0.3, first % 3, rng.integers(0, 3, len(owner)))
    table = tables.transitions(stats_of(np.stack([first, second])[..., None], document=owner, num_experts=4))
    rows = table[(table["expert"] == 3) & (table["other_expert"] < 3)]
    return rows.set_index(["metric", "other_expert"])[["value", "low", "high"]].astype(float)


@pytest.mark.slow
def test_intervals_of_a_rare_expert_hold_the_truth():
    truth, held = with_a_rare_expert(np.random.default_rng(1), 6000)["value"], {}
    for run in range(1000):
        rows = with_a_rare_expert(np.random.default_rng([0, run]), 20).dropna()
        inside = (rows["low"] <= truth.loc[rows.index]) & (truth.loc[rows.index] <= rows["high"])
        for metric, share in inside.groupby(level=0).mean().items():
            held.setdefault(metric, []).append(share)
    for metric in ("joint_share", "transition_lift", "transition_probability"):
        assert np.mean(held[metric]) >= 0.92 - 2 * np.std(held[metric]) / np.sqrt(1000), metric


def test_the_interval_of_a_conditional_share_has_the_freedom_of_its_own_documents():
    """Expert 7 is chosen in 5 of 20 documents, by 30, 10, 10, 10 and 10 tokens: 4900 / 1300 - 1 = 2.77 freedom."""
    sizes, document = [30, 10, 10, 10, 10], np.repeat(range(20), 100)
    ids = np.tile([0, 1], (1, 2000, 1))
    for number, size in enumerate(sizes):
        ids[0, number * 100 : number * 100 + size] = np.where(np.arange(size) % 6 <= number, [[7], [2]], [[7], [3]]).T
    row = pick(
        tables.coactivation(stats_of(ids, document=document)),
        expert=7, other_expert=2, metric="coactivation_conditional",
    ).iloc[0]  # fmt: skip
    hits = np.array([(np.arange(size) % 6 <= number).sum() for number, size in enumerate(sizes)])
    low, high = metrics.jackknife_interval(hits.sum() / 70, (hits.sum() - hits) / (70 - np.array(sizes)), sizes)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((hits.sum() / 70, max(low, 0), min(high, 1)))
