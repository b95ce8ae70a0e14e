"""Paths, caches, placements and capacities of traces: known answers, closed forms, and what cannot be."""

import numpy as np
import pytest
from scipy import stats as distributions

from mixtral_probe import metrics, tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace


def trace_of(ids, document=None, **more):
    ids = np.asarray(ids)
    document = np.zeros(ids.shape[1], int) if document is None else document
    documents = [{"id": f"d{i}", "domain": "ab"[i % 2]} for i in range(int(np.max(document)) + 1)]
    return Trace.from_arrays(expert_ids=ids, document=document, documents=documents, **{"num_experts": 8, **more})


def uniform(tokens, documents=20, layers=2, seed=0):
    ids = np.random.default_rng(seed).random((layers, tokens, 8)).argsort(-1)[..., :2]
    return trace_of(ids, np.arange(tokens) * documents // tokens)


@pytest.fixture(scope="module")
def even():
    return uniform(12_000)


def test_uniform_routing_hits_the_cache_by_chance(even):
    table = tables.cache_simulation(even, capacities=[2, 3, 4, 6])
    for policy in ("lru", "lfu", "static"):
        own = pick(table, policy=policy, metric="hit_rate", layer=None)
        np.testing.assert_allclose(own["value"], np.array([2, 3, 4, 6]) / 8, atol=0.012)
        np.testing.assert_allclose(own["value"], own["null"], atol=0.012)
    sequential = pick(table, policy="lru", metric="hit_rate_sequential", layer=0)
    np.testing.assert_allclose(sequential["value"], [0.1964, 0.3304, 0.4643, 0.7321], atol=0.012)
    belady = pick(table, policy="belady", metric="hit_rate_sequential", layer=None)
    assert (belady["value"].to_numpy() > sequential["value"].to_numpy() + 0.04).all()
    np.testing.assert_allclose(belady["value"], belady["null"], atol=0.012)
    assert pick(table, policy="lru", layer=0)["n"].eq(12_000).all()


POLICIES = ("lru", "lfu", "belady", "static")


def chain(load, repeats, windows=20, length=600, seed=0):
    """Windows of a layer of one choice a token: that of the token before with this chance, else drawn from the load."""
    rng, tokens = np.random.default_rng(seed), windows * length
    fresh, place = rng.choice(len(load), tokens, p=load), np.arange(tokens)
    new = (rng.random(tokens) >= repeats) | (place % length == 0)
    ids = fresh[np.maximum.accumulate(np.where(new, place, 0))]
    return trace_of(ids[None, :, None], place // length, num_experts=len(load))


def test_tokens_in_random_order_hit_as_uniform_ones_where_loads_are_even(even):
    table = pick(tables.cache_simulation(even, capacities=[2, 3, 4, 6]), metric="hit_rate", layer=None)
    for policy in POLICIES:
        own = pick(table, policy=policy)
        np.testing.assert_allclose(own["null_same_load"], own["null"], atol=0.012)
        if policy != "belady":
            np.testing.assert_allclose(own["null_same_load"], np.array([2, 3, 4, 6]) / 8, atol=0.012)


def test_skewed_loads_alone_hit_no_more_than_the_same_tokens_in_random_order():
    load = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    table = pick(tables.cache_simulation(chain(load, 0.0), capacities=[1, 2, 3]), metric="hit_rate", layer=0)
    for policy in POLICIES:
        own = pick(table, policy=policy)
        np.testing.assert_allclose(own["value"], own["null_same_load"], atol=0.015)
        assert (own["value"] > own["null"] + 0.05).all()
    # King (1971): a cache of two has the last expert, i, and the one before it that is another, j.
    lru, static = pick(table, policy="lru")["null_same_load"], pick(table, policy="static")["null_same_load"]
    second = [(load[i] * load[j] / (1 - load[i]) * load[j]) for i in range(6) for j in range(6) if i != j]
    np.testing.assert_allclose(lru.iloc[:2], [(load**2).sum(), (load**2).sum() + sum(second)], atol=0.012)
    np.testing.assert_allclose(static, load.cumsum()[:3], atol=0.012)


def test_a_chain_of_copies_hits_more_than_the_same_tokens_in_random_order():
    table = tables.cache_simulation(chain(np.full(6, 1 / 6), 0.5), capacities=[1, 2, 3])
    table = pick(table, metric="hit_rate", layer=0)
    for policy in ("lru", "lfu", "belady"):
        own = pick(table, policy=policy)
        assert (own["low"] > own["null_same_load"] + 0.02).all(), policy
        np.testing.assert_allclose(own["null_same_load"], own["null"], atol=0.02)
    # A token repeats the one before in 1/2 + 1/2 * 1/6 of the cases.
    assert pick(table, policy="lru", capacity=1)["value"].item() == pytest.approx(7 / 12, abs=0.012)
    own = pick(table, policy="static")
    np.testing.assert_allclose(own["null_same_load"], own["value"])


def test_the_null_of_the_same_load_is_each_groups_own():
    document = np.repeat(range(8), 500)
    second = np.random.default_rng(0).random(4000) < np.where(document % 2, 0.8, 0.2)
    trace = trace_of(second.astype(int)[None, :, None], document, num_experts=2)
    table = pick(tables.cache_simulation(trace, by="domain", capacities=[1]), metric="hit_rate", policy="lru", layer=0)
    found = table.set_index("group")["null_same_load"]
    # In each group one expert has about 0.8 of the load, in both together half: the last expert is that of the token
    # before with the sum of squares.
    shares = {"a": second[document % 2 == 0].mean(), "b": second[document % 2 == 1].mean(), "all": second.mean()}
    for group, share in shares.items():
        assert found[group] == pytest.approx(share**2 + (1 - share) ** 2, abs=0.012)
    alone = tables.cache_simulation(trace, capacities=[1])
    assert pick(alone, metric="hit_rate", policy="lru", layer=0)["null_same_load"].item() == found["all"]


def test_caches_begin_empty_in_every_window():
    ids = np.zeros((1, 30, 1), int)
    table = tables.cache_simulation(trace_of(ids, np.repeat([0, 1, 2], [5, 10, 15])), capacities=[1], by="domain")
    lru = pick(table, policy="lru", layer=0, metric="hit_rate").set_index("group")["value"]
    assert lru.to_dict() == {"a": (4 + 14) / 20, "all": 27 / 30, "b": 9 / 10}
    assert pick(table, policy="static", layer=0, group="all")["value"].eq(1).all()


def test_a_cache_reads_only_so_many_tokens(even):
    table = tables.cache_simulation(even, capacities=[4], most_tokens=900)
    assert table["n"].eq(900).all()
    assert table["scope"].str.contains("the first 900 tokens").all()
    with pytest.raises(InputError, match=r"between 2 and 8 experts, got \[1, 4\]"):
        tables.cache_simulation(even, capacities=[1, 4])


def test_drops_by_hand():
    ids = np.array([[[0, 1], [0, 2], [0, 1], [0, 3]]])
    table = tables.capacity_simulation(trace_of(ids, num_experts=4), factors=[1.0, 2.0])
    whole = pick(table, bin=None, layer=0).set_index("capacity_factor")["value"]
    assert whole.to_dict() == {1.0: 2 / 8, 2.0: 0.0}  # two of the four tokens of expert 0
    by_place = pick(table, capacity_factor=1.0, layer=0)
    by_place = by_place[by_place["bin"].notna()]
    assert by_place["value"].tolist() == [0, 0, 0.5]
    assert by_place["left"].tolist() == [0, 1, 2]
    assert by_place["right"].tolist() == [1, 2, 4]
    assert by_place["n"].tolist() == [1, 1, 2]


def tasteful(rng, lengths, experts=8):
    """A layer of documents that each choose two experts by their own taste."""
    taste = np.repeat(rng.normal(size=(len(lengths), experts)), lengths, axis=0)
    ids = np.argsort(-(taste + rng.gumbel(size=taste.shape)), axis=-1)[None, :, :2]
    return trace_of(ids, np.repeat(np.arange(len(lengths)), lengths))


def test_the_interval_of_a_bin_is_that_of_the_documents_that_reach_it():
    lengths = [30] * 20 + [100] * 6
    trace = tasteful(np.random.default_rng(0), lengths)
    row = pick(tables.capacity_simulation(trace, factors=[1.0]), layer=0, bin=7).iloc[0]
    dropped = []
    for document in range(20, 26):
        ids = trace.expert_ids[0, trace.rows(document)]
        earlier = [[(ids[:place] == expert).sum() for expert in ids[place]] for place in range(64, 100)]
        dropped.append((np.array(earlier) >= 25).mean())  # 25 = 2 * 100 / 8
    low, high = distributions.t.interval(0.95, 5, np.mean(dropped), np.std(dropped, ddof=1) / np.sqrt(6))
    assert (row["value"], row["low"], row["high"]) == pytest.approx((np.mean(dropped), low, high))
    assert row["n"] == 6 * 36


def bin_coverage(documents, repeats):
    """How often the interval of the last bin, which these documents of 40 reach, holds the share of all documents."""
    rng, hits = np.random.default_rng(documents), []
    lengths = [30] * (40 - documents) + [100] * documents
    far = pick(tables.capacity_simulation(tasteful(rng, [100] * 1000), factors=[1.0]), layer=0, bin=7)["value"].item()
    for _ in range(repeats):
        row = pick(tables.capacity_simulation(tasteful(rng, lengths), factors=[1.0]), layer=0, bin=7).iloc[0]
        hits.append(row["low"] <= far <= row["high"])
    return np.mean(hits)


def test_the_last_bin_is_covered():
    assert bin_coverage(6, 60) >= 0.87  # 0.92 less two standard errors of 60 simulations


@pytest.mark.slow
@pytest.mark.parametrize("documents", [5, 8, 20])
def test_the_last_bin_is_covered_92_times_of_100(documents):
    assert bin_coverage(documents, 1000) >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 1000)


def test_drops_of_uniform_routing_are_those_of_a_binomial_load(even):
    table = tables.capacity_simulation(even)
    whole = pick(table, bin=None, layer=None)
    np.testing.assert_allclose(whole["value"], whole["null"], atol=2e-3)
    last = pick(table, capacity_factor=1.0, layer=0, bin=10)
    assert last["value"].item() == pytest.approx(last["null"].item(), rel=0.25)
    with pytest.raises(InputError, match=r"must be above 0, got \[0.0\]"):
        tables.capacity_simulation(even, factors=[0.0])


def test_one_window_drops_what_its_tokens_drop_in_any_order():
    rng = np.random.default_rng(2)
    table = tables.capacity_simulation(tasteful(rng, [300]), factors=[0.5, 1.0, 1.5])
    whole = pick(table, bin=None)
    np.testing.assert_allclose(whole["null_same_load"], whole["value"])
    assert (whole["value"] > 0).any()


def test_skewed_loads_and_windows_of_their_own_drop_apart():
    load = np.array([0.3, 0.25, 0.15, 0.1, 0.1, 0.1])
    skewed = pick(tables.capacity_simulation(chain(load, 0.0), factors=[1.0, 1.5]), bin=None, layer=0)
    np.testing.assert_allclose(skewed["value"], skewed["null_same_load"], atol=0.006)
    assert (skewed["null_same_load"] > skewed["null"] + 0.03).all()
    rng = np.random.default_rng(4)
    own = pick(tables.capacity_simulation(tasteful(rng, [200] * 40), factors=[1.0, 1.5]), bin=None, layer=0)
    assert (own["low"] > own["null_same_load"] + 0.03).all()
    assert (own["null_same_load"] < own["null"] + 0.03).all()


def test_loads_of_ranks_by_hand():
    ids = np.repeat(np.arange(4), [8, 4, 2, 2]).reshape(1, -1, 1)
    table = tables.placement_simulation(RoutingStats.from_trace(trace_of(ids, num_experts=4)), spare=(0, 1))
    found = pick(table, layer=0, group="all").set_index(["metric", "ranks", "replicas"])["value"]
    assert found["rank_imbalance", 2, 4] == 12 / 8
    assert found["rank_imbalance", 4, 4] == 8 / 4
    assert found["rank_imbalance_eplb", 2, 4] == 10 / 8  # 8 + 2 and 4 + 2
    # Copies of experts 0 and 1 or twice 0: replicas of 4, 4 (0), 4 (1), 2, 2 … two ranks of 3 at 8 each.
    assert found["rank_imbalance_eplb", 2, 6] == pytest.approx(1, abs=0.26)
    assert pick(table, metric="rank_imbalance_eplb_crossval")["scope"].str.contains("no tokens in one half").all()


def test_the_table_places_as_the_formula_does():
    stats = RoutingStats.from_trace(random_trace(documents=12), by="domain")
    table = tables.placement_simulation(stats, ranks=[4], spare=[1])
    load = stats.pooled().total().counts[:, 0]
    where = metrics.eplb_placement(load, replicas=12, ranks=4)
    own = pick(table, metric="rank_imbalance_eplb", group="all")
    ranks = metrics.rank_load(load, where, 4)
    np.testing.assert_allclose(own["value"][:3], ranks.max(-1) / ranks.mean(-1))
    assert own["value"].iloc[3] == pytest.approx(ranks.max(-1).sum() / ranks.mean(-1).sum())
    with pytest.raises(InputError, match="must divide the 8 experts of a layer, got 3"):
        tables.placement_simulation(stats, ranks=[3])


def test_even_loads_need_no_balancing():
    table = tables.placement_simulation(RoutingStats.from_trace(uniform(8000)))
    for metric in ("rank_imbalance", "rank_imbalance_eplb", "rank_imbalance_eplb_crossval"):
        own = pick(table, metric=metric)
        np.testing.assert_allclose(own["value"], own["null"], atol=0.06)


CROSSED = "rank_imbalance_eplb_crossval"


def crossed(trace, by=None):
    stats = RoutingStats.from_trace(trace, by=by)
    return pick(tables.placement_simulation(stats, ranks=[4], spare=[1]), metric=CROSSED)


def test_loads_settle_every_placement_but_the_crossed_one():
    stats = RoutingStats.from_trace(random_trace(documents=12), by="domain")
    table = tables.placement_simulation(stats, ranks=[2, 4])
    settled = table[table["metric"] != CROSSED]
    np.testing.assert_allclose(settled["null_same_load"], settled["value"])
    assert pick(table, metric=CROSSED)["null_same_load"].notna().all()


def test_documents_alike_are_placed_as_well_by_other_documents_as_by_any_tokens():
    rng, load = np.random.default_rng(0), np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
    ids = np.log(load) + rng.gumbel(size=(6, 8000, 8))
    table = crossed(trace_of(np.argsort(-ids, -1)[..., :2], np.arange(8000) // 400))
    own = pick(table, layer=None)
    assert own["value"].item() == pytest.approx(own["null_same_load"].item(), abs=0.02)
    # Six layers of eight documents with a taste of their own: what fits one half of them fits the other less well.
    tasteful_layers = np.concatenate([tasteful(rng, [400] * 8).expert_ids for _ in range(6)])
    own = pick(crossed(trace_of(tasteful_layers, np.arange(3200) // 400)), layer=None)
    assert own["value"].item() > own["null_same_load"].item() + 0.03


def test_the_null_of_all_documents_does_not_depend_on_their_groups():
    trace = random_trace(documents=12, tokens=2000)
    alone, grouped = crossed(trace), pick(crossed(trace, "domain"), group="all")
    np.testing.assert_array_equal(alone["null_same_load"], grouped["null_same_load"])


def test_a_layer_that_renames_the_one_before_adds_no_path():
    rng = np.random.default_rng(0)
    first, renamed = rng.choice(8, 4000, p=np.arange(1, 9) / 36), rng.permutation(8)
    table = tables.paths(trace_of(np.stack([first, renamed[first]])[..., None], np.arange(4000) // 400), top=3)
    whole = pick(table, place=None).set_index("metric")
    share = np.bincount(first, minlength=8) / 4000
    assert whole.loc["distinct_paths", "value"] == 8
    assert whole.loc["distinct_paths", "null"] == 64
    entropy = -(share * np.log2(share)).sum()
    assert whole.loc["path_entropy_bits", "value"] == pytest.approx(entropy)
    assert whole.loc["path_entropy_bits", "null"] == pytest.approx(2 * entropy, abs=0.03)
    top = pick(table, metric="path_share")
    assert top["path"].iloc[0] == f"7-{renamed[7]}"
    assert top["value"].iloc[0] == pytest.approx(share[7])
    assert top["null"].iloc[0] == pytest.approx(share[7] ** 2)
    assert (top["low"] < top["value"]).all()


def test_paths_of_independent_layers_are_as_many_as_shuffled_ones(even):
    table = tables.paths(even, by="domain")
    whole = pick(table, metric="path_entropy_bits")
    np.testing.assert_allclose(whole["value"], whole["null"], atol=0.02)
    np.testing.assert_allclose(whole["value"], 6, atol=0.03)
    assert pick(table, group="a", metric="path_share")["place"].tolist() == list(range(20))


def test_layers_have_the_numbers_of_the_model():
    trace = random_trace(layers=2, moe_layers=(3, 7))
    for made in (tables.cache_simulation(trace), tables.capacity_simulation(trace)):
        assert set(made["layer"].dropna()) == {3, 7}
