"""Tokens of experts: the family of their false discoveries, what is missing, and the level by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from tests.support.document_tastes import tasting_trace
from tests.support.routing import pick

FALSE = "token_false_discovery"


def stats_of(trace):
    return RoutingStats.from_trace(trace, by="domain")


@pytest.fixture(scope="module")
def stats():
    """Ten and three documents, in a row of folds each; a third of the types say which expert they prefer."""
    trace = tasting_trace(np.random.default_rng(0), (10, 3), (60, 60), layers=2, words=12, word=1.5)
    return stats_of(trace)


def test_the_family_is_all_types_experts_layers_and_groups(stats):
    found, p = {}, []
    for number, group in enumerate([*stats.groups, "all"]):
        kinds = stats.affinity.select("input", None if group == "all" else number)
        types = np.flatnonzero(kinds.total()[0].sum(-1) / 2 >= 10)
        for layer in range(2):
            own = metrics.consistent_lift_p_values(
                kinds.of_layer(layer), kinds.tokens[layer], kinds.fold, kinds.place, types
            )
            for row, expert in np.argwhere(np.isfinite(own)):
                found[layer, group, expert, kinds.ids[types[row]]] = len(p)
                p.append(own[row, expert])
    rates, table = false_discovery_control(p), pick(tables.expert_tokens(stats, top=100), metric=FALSE)
    tested = table[table["value"].notna()]
    assert set(tested["group"]) == {"a", "all"}
    for row in tested.itertuples():
        assert row.value == pytest.approx(rates[found[row.layer, row.group, row.expert, row.token_id]])
    # Rows have a lift above 1; nearly all with a small rate do.
    assert (tested["value"] < 0.05).sum() == (rates < 0.05).sum() > 10


def test_a_type_in_few_folds_has_no_rate_and_the_scope_says_so(stats):
    rows = pick(tables.expert_tokens(stats), group="b", metric=FALSE)
    assert rows["value"].isna().all()
    assert (rows["n"] == 0).all()
    assert rows["scope"].str.contains(r"not enough data: the type is in \d folds? of documents, 5 are needed").all()
    lifts = pick(tables.expert_tokens(stats), group="b", metric="token_lift")
    assert lifts["value"].notna().all()


def test_a_scope_names_test_and_family(stats):
    rows = pick(tables.expert_tokens(stats), group="all", metric=FALSE)
    family = "Benjamini-Hochberg over all types tried, experts, layers and groups; no interval: a test"
    assert rows["scope"].str.endswith(family).all()
    assert rows["scope"].str.contains(r"consistent in \d+ folds of documents").all()


def test_statistics_of_halves_have_no_rate(stats):
    halved = replace(stats, affinity=stats.affinity.in_halves())
    rows = pick(tables.expert_tokens(halved), metric=FALSE)
    assert rows["value"].isna().all()
    assert rows["scope"].str.endswith("statistics of an earlier version know documents by half only").all()


def false_shares(runs, documents, lengths, **more):
    """[runs] the share of false discoveries among the types and experts found, and [runs] how many were found."""
    rng, shares, finds = np.random.default_rng(1), [], []
    for _ in range(runs):
        stats = stats_of(tasting_trace(rng, documents, lengths, words=12, **more))
        rows = pick(tables.expert_tokens(stats, top=100), metric=FALSE)
        found = rows[(rows["value"] <= 0.05).to_numpy()]
        shares.append((found["token_id"] % 2 == 0).mean() if len(found) else 0.0)
        finds.append((found["token_id"] % 2 == 1).sum())
    return np.array(shares), np.array(finds)


def check_shares(shares):
    assert shares.mean() <= 0.05 + 2 * shares.std() / np.sqrt(len(shares))


def test_documents_with_experts_of_their_own_are_seldom_taken_for_words():
    shares, _ = false_shares(60, (8, 8), (80, 80), taste=0.8, habit=0.5)
    check_shares(shares)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("documents", "lengths", "more"),
    [
        ((8, 8), (80, 80), {"taste": 0.8}),
        ((8, 8), (80, 80), {"taste": 0.8, "habit": 0.8}),
        ((30, 6), (30, 200), {"taste": 0.8, "habit": 0.8}),
        ((8, 8), (80, 80), {"taste": 0.8, "topic": 1.0}),
    ],
    ids=["tastes", "habits", "uneven", "topics"],
)
def test_false_discoveries_of_blind_words_keep_their_level(documents, lengths, more):
    check_shares(false_shares(400, documents, lengths, **more)[0])


@pytest.mark.slow
@pytest.mark.parametrize("habit", [0.0, 0.5])
def test_planted_preferences_are_found_among_blind_words(habit):
    shares, finds = false_shares(400, (12, 12), (120, 120), base=0.0, taste=0.5, word=1.5, habit=habit)
    check_shares(shares)
    # Of 6 types with a preference, in 3 layers and 3 groups, more than an expert each.
    assert finds.mean() > 54
