"""Vocabulary, tokens of experts, distances between groups: known answers, nulls, what is missing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats, document_keys
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace


def stats_of(ids, tokens, documents=8, **more):
    """First `documents` documents of the same length, alternately of domain x and y."""
    labels = [{"id": str(i), "domain": "xy"[i % 2]} for i in range(documents)]
    owner = np.repeat(range(documents), len(tokens) // documents)
    trace = Trace.from_arrays(
        expert_ids=np.asarray(ids), num_experts=8, token_ids=tokens, document=owner, documents=labels, **more
    )
    return RoutingStats.from_trace(trace, by="domain")


@pytest.fixture(scope="module")
def routed():
    """Layer 0 routes by the token alone, layer 1 at random; token 0 is met 4 times, the others often."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 12, 4000)
    tokens[[3, 700, 1600, 3100]] = 0
    pairs = np.array([[x % 8, (x + 3) % 8] for x in range(12)])
    ids = np.stack([pairs[tokens], rng.random((4000, 8)).argsort(-1)[:, :2]])
    return stats_of(ids, tokens, piece=[f"t{x}" for x in tokens])


def test_routing_by_token_scores_1_and_random_routing_its_null(routed):
    table = pick(tables.vocabulary_specialization(routed), target="input", group="all", expert=None)
    assert (pick(table, layer=0)["value"] == 1).all()
    assert (pick(table, layer=0)["null"] < 0.5).all()
    random = pick(table, layer=1)
    np.testing.assert_allclose(random["value"], random["null"], atol=0.04)
    plug_in = pick(random, metric="vocabulary_specialization", min_count=1, weighting="type").iloc[0]
    assert plug_in["n"] == 4000
    assert "12 types; uniform routing 0." in plug_in["scope"]
    assert pick(random, metric="vocabulary_specialization", min_count=10, weighting="type").iloc[0]["n"] == 3996


def crossval(stats, **keys):
    keys = {"metric": "vocabulary_specialization_crossval", "target": "input", "group": "all"} | keys
    return pick(tables.vocabulary_specialization(stats), **keys)


def test_the_interval_of_random_routing_holds_its_null_and_an_extreme_has_none():
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 60, 6000)
    stats = stats_of(np.stack([tokens % 8, rng.integers(0, 8, 6000)])[..., None], tokens, documents=30)
    table = crossval(stats)
    assert len(table) == 8
    settled = pick(table, layer=0)
    assert (settled["value"] == 1).all()
    assert settled["low"].isna().all()  # nothing in these documents says how far others could be from 1
    assert settled["scope"].str.endswith("the same extreme in every document: no interval").all()
    random = pick(table, layer=1)
    assert (random["corrected"] == random["value"]).all()
    assert ((random["low"] < random["null"]) & (random["null"] < random["high"])).all()
    assert (random["high"] - random["low"] < 0.05).all()
    scope = random["scope"].iloc[0]
    assert "60 types in two folds of documents or more; mean over 15 splits of 16 folds" in scope
    assert scope.endswith("95 % interval of the value that as many other documents give")


def test_few_folds_and_halves_have_no_interval(routed):
    few = stats_of(np.zeros((1, 80, 1), int), np.arange(80) % 4, documents=4)
    row = crossval(few, min_count=1, weighting="type").iloc[0]
    folds = {int(key) >> 60 for key in document_keys("0123")}
    assert row["scope"].endswith(f"{len(folds)} blocks of documents: no interval below 5")
    assert (row["value"], np.isnan(row["low"])) == (1, True)
    halves = crossval(replace(routed, affinity=routed.affinity.in_halves()), layer=0)
    assert (halves["value"] == 1).all()
    assert halves["low"].isna().all()
    assert (
        halves["scope"]
        .str.endswith(
            "the one split into halves that statistics of version 4 have; 2 blocks of documents: no interval below 5"
        )
        .all()
    )


def test_rows_with_an_expert_are_about_the_types_that_chose_it_most(routed):
    table = pick(tables.vocabulary_specialization(routed), target="input", group="all", layer=0, min_count=10)
    own = pick(table, weighting="type", metric="vocabulary_specialization")
    own = own[own["expert"].notna()]
    assert own["n"].sum() == 3996
    assert (own["value"].dropna() == 1).all()


def test_tokens_of_an_expert_are_those_that_are_sent_to_it(routed):
    table = tables.expert_tokens(routed)
    for expert in range(8):
        own = pick(table, layer=0, group="all", expert=expert)
        sent = {x for x in range(1, 12) if expert in (x % 8, (x + 3) % 8)}
        assert set(own["token_id"].dropna()) == sent
        assert set(own["token"].dropna()) == {f"t{x}" for x in sent}
        frequency = pick(own, metric="token_frequency")
        np.testing.assert_array_equal(frequency["value"], 1)
        lift = pick(own, metric="token_lift")
        np.testing.assert_allclose(lift["value"], 1 / frequency["null"])
        # Six folds of documents: t tests of 5 degrees of freedom, whatever the number of tokens.
        assert (pick(own, metric="token_false_discovery")["value"] < 1e-3).all()
    # Both layers are one family: of all finds below q about a share q may be of the layer of random routing.
    rates = pick(table, group="all", metric="token_false_discovery")
    found = rates[(rates["value"] < 0.05).to_numpy()]
    assert (found["layer"] == 1).mean() < 0.1


def test_few_tokens_and_no_ids_are_said(routed):
    few = stats_of(np.zeros((1, 8, 1), int), np.arange(8))
    assert tables.expert_tokens(few)["scope"].str.contains("not enough data: no token type was met 10 times").all()
    table = pick(tables.vocabulary_specialization(few), target="input", min_count=10, expert=None)
    assert table["scope"].str.contains("not enough data: no type was met so often").all()
    without = RoutingStats.from_trace(random_trace())
    assert tables.expert_tokens(without)["scope"].str.contains("token ids were not recorded").all()


def test_distance_of_groups_is_that_of_scipy():
    x, y = [0, 0, 1, 2], [0, 3, 3, 3]
    stats = stats_of(np.array([x, y] * 5).reshape(1, 40, 1), np.zeros(40, int), documents=10)
    table = tables.group_divergence(stats).set_index("metric")
    expected = jensenshannon([2, 1, 1, 0], [1, 0, 0, 3], base=2) ** 2
    assert table.loc["js_divergence_bits", "value"] == pytest.approx(expected)
    # Documents of a group are alike, so leaving one out changes nothing.
    assert table.loc["js_divergence_bits", "low"] == pytest.approx(expected)
    assert table.loc["js_divergence_bits", "high"] == pytest.approx(expected)
    assert table.loc["load_cosine", "value"] == pytest.approx(2 / np.sqrt(6 * 10))
    assert table["n"].tolist() == [40] * 6
    assert set(zip(table["group"], table["other_group"], strict=True)) == {("x", "y")}


def test_a_group_of_one_document_has_no_interval_and_one_group_no_distance():
    stats = stats_of(np.array([[0, 1], [2, 1]]).reshape(1, 4, 1), np.zeros(4, int), documents=2)
    table = tables.group_divergence(stats)
    assert pick(table, metric="load_cosine")["scope"].item().endswith("a group of 1 document: no interval below 5")
    assert "two groups are needed" in tables.group_divergence(stats.pooled()).attrs["note"]


def test_preference_among_pairs_is_zero_without_one():
    ids = np.array([[i, j] for i in range(8) for j in range(8) if i != j])[None]
    table = pick(tables.coactivation(stats_of(ids, np.zeros(56, int))), metric="coactivation_preference", group="all")
    np.testing.assert_allclose(table["value"], 0, atol=1e-9)
    assert len(table) == 56
