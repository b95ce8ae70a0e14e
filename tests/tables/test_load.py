"""Load, rank and balance tables: values, nulls, intervals, groups; the published table of real Mixtral."""

import numpy as np
import pytest

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import collapsed, fixed_trace, pick, random_trace


def test_expert_load_by_brute_force():
    trace = random_trace(layers=2, tokens=90)
    table = tables.expert_load(RoutingStats.from_trace(trace))
    for layer in range(2):
        counts = np.bincount(trace.expert_ids[layer].ravel(), minlength=8)
        share = pick(table, layer=layer, metric="share")
        assert share["expert"].tolist() == list(range(8))
        np.testing.assert_allclose(share["value"], counts / 180, rtol=1e-15)
        frequency = pick(table, layer=layer, metric="selection_frequency")
        np.testing.assert_allclose(frequency["value"], counts / 90, rtol=1e-15)
    assert set(table["n"]) == {90}
    sums = table.groupby(["layer", "metric"])["value"].sum()
    for metric, total in {"share": 1, "selection_frequency": 2, "gate_share": 1, "mean_probability": 1}.items():
        np.testing.assert_allclose(sums.xs(metric, level="metric"), total, rtol=1e-12)
        assert set(pick(table, metric=metric)["null"]) == {total / 8}


def fewer_choices():
    """Four tokens of three experts with 2, 2, 1 and no choice."""
    ids = [[[0, 1], [2, 0], [1, -1], [-1, -1]]]
    return RoutingStats.from_trace(fixed_trace(ids, np.zeros((1, 4, 3)), document=[0, 0, 0, 0]))


def test_nulls_where_some_tokens_chose_fewer_experts():
    stats = fewer_choices()
    load = tables.expert_load(stats)
    assert pick(load, metric="selection_frequency")["value"].tolist() == [2 / 3, 2 / 3, 1 / 3]
    np.testing.assert_allclose(pick(load, metric="selection_frequency")["null"], 5 / 3 / 3)
    assert set(load["n"]) == {3}
    ranked = tables.load_by_rank(stats)
    np.testing.assert_allclose(pick(ranked, rank=0)["null"], 1 / 3)
    np.testing.assert_allclose(pick(ranked, rank=1)["null"], 2 / 3 / 3)
    assert pick(ranked, rank=1).groupby("rank")["value"].sum().item() == pytest.approx(2 / 3)
    mass = pick(tables.router_confidence(stats), metric="topk_mass").set_index("statistic")["null"]
    assert mass["mean"] == pytest.approx((2 + 2 + 1) / 9)
    assert mass[["q05", "q25", "median", "q95"]].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_groups_and_their_sum():
    trace = random_trace(documents=9)
    grouped = tables.expert_load(RoutingStats.from_trace(trace, by="domain"))
    plain = tables.expert_load(RoutingStats.from_trace(trace))
    assert set(grouped["group"]) == {"all", "code", "law", "math"}
    np.testing.assert_allclose(pick(grouped, group="all")["value"], plain["value"], rtol=1e-12)
    np.testing.assert_allclose(pick(grouped, group="all")["low"], plain["low"], rtol=1e-9)


def test_an_interval_is_the_jackknife_over_documents():
    trace = random_trace(documents=6)
    document = trace.tokens["document"].to_numpy()
    hits = np.array([(trace.expert_ids[1, document == d] == 3).sum() for d in range(6)])
    sizes = np.bincount(document)
    total, tokens = hits.sum(), sizes.sum()
    low, high = metrics.jackknife_interval(total / tokens / 2, (total - hits) / (tokens - sizes) / 2, sizes)
    row = pick(tables.expert_load(RoutingStats.from_trace(trace)), layer=1, expert=3, metric="share")
    assert (row["low"].item(), row["high"].item()) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("documents", [5, 6])
def test_five_documents_are_enough_for_an_interval(documents):
    table = tables.expert_load(RoutingStats.from_trace(random_trace(documents=documents)))
    assert table["low"].notna().all()


def test_four_documents_are_not_and_more_documents_of_one_group_do_not_help():
    few = tables.expert_load(RoutingStats.from_trace(random_trace(documents=4)))
    assert few["low"].isna().all()
    assert few["corrected"].isna().all()
    assert few["scope"].str.contains("4 documents: no interval below 5").all()
    grouped = tables.expert_load(RoutingStats.from_trace(random_trace(documents=13), by="domain"))  # 5, 4 and 4
    assert set(grouped.loc[grouped["low"].notna(), "group"]) == {"all", "code"}


def test_one_long_document_among_short_ones_is_named():
    document = np.repeat(np.arange(6), [1000, 10, 10, 10, 10, 10])
    ids = np.random.default_rng(0).random((1, 1050, 8)).argsort(-1)[..., :2]
    table = tables.expert_load(
        RoutingStats.from_trace(Trace.from_arrays(expert_ids=ids, document=document, num_experts=8))
    )
    # (sum m)^2 / sum m^2 - 1 = 0.10, and never less than one degree of freedom, whose quantile is 12.7.
    assert table.loc[table["low"].notna(), "scope"].str.contains("t 12.7: few documents have most tokens").all()
    even = tables.expert_load(RoutingStats.from_trace(random_trace(documents=6)))
    assert not even["scope"].str.contains("few documents have most").any()


def test_what_every_document_has_wholly_or_not_at_all_has_no_interval():
    """Twelve documents without a repeat do not say that no document has one."""
    ids = np.tile(np.arange(8), 30)[None, :, None]
    stats = RoutingStats.from_trace(Trace.from_arrays(expert_ids=ids, document=np.repeat(range(12), 20), num_experts=8))
    lag = pick(tables.repetition(stats), metric="repetition_first").set_index("lag")
    assert lag.loc[1, "value"] == 0
    assert lag.loc[8, "value"] == 1
    assert lag["low"].isna().all()
    assert lag["scope"].str.endswith("the same extreme in every document: no interval").all()
    alike = tables.expert_load(stats)  # between the extremes, documents alike are an interval of no width
    assert (alike.loc[alike["metric"] == "share", "low"] < alike.loc[alike["metric"] == "share", "high"]).any()


def test_one_document_has_no_interval_and_says_so():
    table = tables.expert_load(RoutingStats.from_trace(random_trace(documents=1)))
    assert table["low"].isna().all()
    assert table["scope"].str.contains("1 document: no interval below 5").all()


def test_load_by_rank():
    trace = random_trace(layers=1, tokens=70)
    table = tables.load_by_rank(RoutingStats.from_trace(trace))
    for rank in range(2):
        expected = np.bincount(trace.expert_ids[0, :, rank], minlength=8) / 70
        np.testing.assert_allclose(pick(table, rank=rank)["value"], expected, rtol=1e-15)
    assert set(table["null"]) == {1 / 8}


def test_balance_of_all_tokens_on_two_experts():
    table = tables.balance(RoutingStats.from_trace(fixed_trace(*collapsed([(0, 4)], 64))))
    value = table.set_index("metric")["value"]
    expected = {"max_violation": 3, "cv_squared": 3, "gini": 0.75, "normalized_entropy": 1 / 3, "dead_experts": 6}
    for metric, known in expected.items():
        assert value[metric] == pytest.approx(known, abs=1e-12), metric
    null = table.set_index("metric")["null"]
    assert null["cv_squared"] == pytest.approx(3 / 64)
    assert null["dead_experts"] == pytest.approx(8 * 0.75**64)
    assert 0 < null["max_violation"] < 1


def test_intervals_are_claimed_for_smooth_metrics_only():
    table = tables.balance(RoutingStats.from_trace(random_trace(documents=10)))
    has = table.groupby("metric")["low"].apply(lambda low: low.notna().all())
    assert set(has.index[has]) == {"cv_squared", "normalized_entropy", "effective_experts"}
    rough = pick(table, metric="max_violation")
    assert rough["scope"].str.contains("no interval: not smooth; 95 % of uniform routings <= ").all()


def test_choosing_every_expert_is_balance():
    table = tables.balance(RoutingStats.from_trace(random_trace(experts=4, chosen=4))).set_index("metric")
    for metric in ("max_violation", "cv_squared", "gini", "dead_experts"):
        assert (table.loc[metric, "value"] == 0).all()
        assert (table.loc[metric, "null"] == 0).all()


def test_real_mixtral_load():
    table = tables.real_mixtral_load()
    assert list(table.columns) == list(tables.TABLES["expert_load"].columns)
    github = pick(table, layer=15, group="github", metric="selection_frequency")
    percent = [28.75, 26.77, 20.55, 18.47, 21.27, 33.21, 27.38, 23.59]
    np.testing.assert_allclose(100 * github["value"], percent, atol=0.005)
    assert set(github["n"]) == {208896}
    np.testing.assert_allclose(
        table.query("metric == 'share'").groupby(["layer", "group"])["value"].sum(), 1, atol=1e-5
    )
    assert pick(table, group="mmlu", metric="share")["layer"].nunique() == 32
    assert pick(table, group="mmlu")["n"].isna().all()
    assert pick(table, group="all")["n"].unique().tolist() == [5 * 208896]
    assert table["low"].isna().all()
    assert table["scope"].str.contains("no interval").all()
