"""Experts of an ablation among each other: p-values, false discovery rates and ranks, by hand and in simulations."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, t

from mixtral_probe import tables
from mixtral_probe.trace import AblationResult
from tests.support.routing import pick

META = {"experts_per_token": 2, "experts": 4, "semantics": "mask", "placebos": 7}


def ablated(seed=0, draws=7, effects=0.0, ways=50.0, documents=8, layers=2, experts=4):
    """Losses of documents of 100 tokens without each expert, and with draws alike where the effect is 0."""
    rng = np.random.default_rng(seed)
    shape = (layers, experts, documents)
    base = rng.normal(300, 30, documents)
    lost = rng.normal(2, 1, (*shape[:2], 1)) + rng.normal(0, 1, (draws + 1, *shape))
    arrays = {
        "nll": base, "tokens": np.full(documents, 100.0), "routed": np.full(shape, 25.0),
        "ablated": base + lost[0] + np.broadcast_to(effects, shape[:2])[..., None],
        "draws": base + lost[1:], "log_arrangements": np.full(shape, ways / documents),
    }  # fmt: skip
    labels = {"document": tuple(str(number) for number in range(documents))}
    return AblationResult.of(arrays, labels, META)


def by_expert(result, metric, column="value"):
    return pick(tables.ablation(result, by=None), metric=metric)[column].to_numpy(float)


def test_p_values_pool_the_studentised_draws_of_all_experts():
    result = ablated(effects=[[0, 0, 0, 4], [0, 2, 0, 0]])
    values = np.concatenate([result.ablated[None], result.draws]).sum(-1).reshape(8, 8)  # the expert, then its draws
    scores = np.abs(values - values.mean(0)) / values.std(0)
    p = [(1 + (scores[1:] >= scores[0, expert] - 1e-9).sum()) / (1 + 7 * 8) for expert in range(8)]
    np.testing.assert_allclose(by_expert(result, "loss_increase", "p"), p)
    np.testing.assert_allclose(by_expert(result, "loss_increase_false_discovery"), false_discovery_control(p))
    row = pick(tables.ablation(result, by=None), metric="loss_increase_false_discovery").iloc[0]
    assert "family: all experts and layers swept, of this group" in row["scope"]
    assert row["null"] == 1


def test_the_band_of_an_expert_is_the_range_of_its_draws():
    result = ablated()
    draws = (result.draws - result.nll).sum(-1).reshape(7, 8) / 800
    for metric in ("loss_increase", "placebo_loss_increase"):
        np.testing.assert_allclose(by_expert(result, metric, "placebo_low"), draws.min(0))
        np.testing.assert_allclose(by_expert(result, metric, "placebo_high"), draws.max(0))
    np.testing.assert_allclose(by_expert(result, "loss_increase", "null"), draws.mean(0))
    np.testing.assert_allclose(by_expert(result, "loss_increase_per_use", "null"), 4 * draws.mean(0))
    scope = pick(tables.ablation(result, by=None), metric="loss_increase")["scope"].iloc[0]
    assert "mean of 7 draws" in scope
    assert "band: range of 7 draws of the placebo, which holds an exchangeable one in 75 % of cases" in scope


def test_ranks_have_the_intervals_of_all_paired_tests():
    result = ablated(effects=[[0, 0, 0, 9], [0, 3, -5, 0]])
    lost = (result.ablated - result.nll).reshape(8, 8)
    beyond = lost - (result.draws - result.nll).mean(0).reshape(8, 8)
    quantile = t.ppf(1 - 0.05 / 7 / 2, 7)
    for metric, values in (("loss_increase_rank", lost), ("loss_increase_beyond_placebo_rank", beyond)):
        difference = values[None] - values[:, None]  # [expert, other, documents]
        error = difference.std(-1, ddof=1) / np.sqrt(8)
        score = np.divide(difference.mean(-1), error, out=np.zeros((8, 8)), where=error > 0)
        np.testing.assert_array_equal(by_expert(result, metric, "low"), 1 + (score > quantile).sum(1))
        np.testing.assert_array_equal(by_expert(result, metric, "high"), 8 - (score < -quantile).sum(1))
        np.testing.assert_array_equal(by_expert(result, metric), 1 + (difference.mean(-1) > 1e-12).sum(1))
    assert by_expert(result, "loss_increase_rank")[3] == 1


def test_a_rank_of_few_documents_has_no_interval():
    ranks = pick(tables.ablation(ablated(documents=4), by=None), metric="loss_increase_rank")
    assert ranks["low"].isna().all()
    assert ranks["scope"].str.contains("4 documents: no interval below 5").all()
    assert sorted(ranks["value"]) == list(range(1, 9))


def test_too_few_arrangements_have_no_p_value():
    table = tables.ablation(ablated(ways=np.log(10)), by=None)
    assert pick(table, metric="loss_increase")["p"].isna().all()
    assert "loss_increase_false_discovery" not in set(table["metric"])
    result = ablated()
    ways = result.log_arrangements.copy()
    ways[0, 1] = 0
    some = AblationResult.of({**result.arrays, "log_arrangements": ways}, result.labels, result.meta)
    rates = pick(tables.ablation(some, by=None), metric="loss_increase_false_discovery")
    assert rates["value"].isna().tolist() == [False, True, *[False] * 6]
    assert "not enough data: the placebo can turn out in fewer than 20 ways: no p-value" in rates["scope"].iloc[1]


def test_one_draw_is_no_band():
    table = tables.ablation(ablated(draws=1), by=None)
    assert table[["placebo_low", "p"]].isna().all(axis=None)
    assert pick(table, metric="loss_increase")["scope"].str.contains("1 draw of the placebo: no band").all()
    assert set(pick(table, metric="loss_increase")["placebo_draws"]) == {1}


def false_shares(runs, level=0.1):
    """Mean share of false discoveries, and how often a null p-value is at most 0.01, 0.05 and 0.1."""
    effects = np.zeros((4, 8))
    effects[0, :3], effects[2, 5] = 6, -6
    false, small = [], []
    for run in range(runs):
        result = ablated(seed=run, effects=effects, layers=4, experts=8)
        table = tables.ablation(result, by=None)
        found = pick(table, metric="loss_increase_false_discovery")["value"].to_numpy(float) <= level
        false.append((found & (effects.ravel() == 0)).sum() / max(found.sum(), 1))
        null = tables.ablation(ablated(seed=10_000 + run, layers=4, experts=8), by=None)
        p = pick(null, metric="loss_increase")["p"].to_numpy(float)
        small.append([(p <= a).mean() for a in (0.01, 0.05, 0.1)])
    return np.array(false), np.array(small)


def assert_control(runs, level=0.1):
    false, small = false_shares(runs, level)
    assert false.mean() <= level + 2 * false.std() / np.sqrt(runs)
    assert (small.mean(0) <= np.array([0.01, 0.05, 0.1]) + 2 * small.std(0) / np.sqrt(runs)).all()


def test_false_discoveries_are_as_rare_as_stated():
    assert_control(20)


@pytest.mark.slow
def test_false_discoveries_are_as_rare_as_stated_in_many_sweeps():
    assert_control(400)
