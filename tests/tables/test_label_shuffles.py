"""Tables that shuffle the labels of documents: an independent recomputation, what is missing, levels by simulation."""

import numpy as np
import pytest
from scipy.stats import entropy, false_discovery_control

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats, document_keys
from tests.support.document_tastes import tasting_trace
from tests.support.routing import pick

P, FALSE = "shuffle_p_value", "shuffle_false_discovery"
TESTED = {
    "mutual_information": lambda stats: pick(tables.mutual_information(stats), variable="domain"),
    "group_divergence": tables.group_divergence,
    "domain_specialization": tables.domain_specialization,
}
LEVELS = np.array([0.01, 0.05, 0.10])


def stats_of(trace):
    return RoutingStats.from_trace(trace, by="domain")


def by_document(trace, layer):
    """Labels, counts [documents, E], tokens and hashed ids of a trace's documents, in the order of the last."""
    keys = document_keys(trace.documents["id"])
    order = np.argsort(keys)
    owner, ids = trace.tokens["document"].to_numpy(), np.asarray(trace.expert_ids[layer])
    counts = [np.bincount(ids[owner == number].ravel(), minlength=trace.num_experts) for number in order]
    return trace.documents["domain"].to_numpy()[order], np.array(counts, float), np.bincount(owner)[order], keys[order]


def spread_of(member, counts, tokens, whole):
    """[E] variance of the frequency of documents [bool], as the docstring of `metrics.group_loads` has it."""
    size, frequency = tokens[member].sum(), counts[member].sum(0) / tokens[member].sum()
    rest = counts[member] - frequency * tokens[member][:, None]
    cluster = member.sum() / (member.sum() - 1) * (rest**2).sum(0) / size**2
    return np.maximum(cluster, whole * (1 - whole) / size)


def information_and_spread(labels, counts, tokens):
    """Information in bits of labels about experts, and what the spread of documents gives for it."""
    whole, share, bits, spread = counts.sum(0) / tokens.sum(), counts.sum(0) / counts.sum(), 0.0, 0.0
    for name in np.unique(labels):
        member, part = labels == name, tokens[labels == name].sum() / tokens.sum()
        own = counts[member].sum(0)
        bits += own.sum() / counts.sum() * entropy(own / own.sum(), share, base=2)
        variance = spread_of(member, counts, tokens, whole)
        spread += part * (1 - part) * (variance / whole).sum() / (2 * np.log(2) * whole.sum())
    return bits, spread


def test_information_is_compared_with_shuffles_at_the_spread_of_the_documents():
    trace = tasting_trace(np.random.default_rng(0), (3, 4, 2), (40, 25, 60), layers=2, topic=0.5)
    table, quotients = TESTED["mutual_information"](stats_of(trace)), []
    for layer in range(2):
        labels, counts, tokens, keys = by_document(trace, layer)
        orders = metrics.shuffled_labels(np.unique(labels, return_inverse=True)[1], 199, seed=keys)
        real, spread = information_and_spread(labels, counts, tokens)
        drawn = np.array([information_and_spread(order, counts, tokens) for order in orders])
        rows = pick(table, layer=layer).set_index("metric")
        null = spread * drawn[:, 0].mean() / drawn[:, 1].mean()
        assert rows.loc["mutual_information_bits", "null"] == pytest.approx(null)
        assert rows.loc["mutual_information_bits_corrected", "value"] == pytest.approx(real - null)
        share = (real - null) / entropy(counts.sum(0), base=2)
        assert rows.loc["mutual_information_share", "value"] == pytest.approx(share)
        quotients.append(np.array([real / spread, *(drawn[:, 0] / drawn[:, 1])]))
    standard = [(values - values.mean()) / values.std() for values in quotients]
    pool = np.concatenate(standard)
    expected = [(pool >= values[0] - 1e-9).mean() for values in standard]
    np.testing.assert_allclose(pick(table, metric=P)["value"], expected)
    np.testing.assert_allclose(pick(table, metric=FALSE)["value"], false_discovery_control(expected))


def test_differences_are_compared_in_standard_errors_of_the_documents():
    trace = tasting_trace(np.random.default_rng(1), (4, 5), (40, 25), layers=1, experts=3, chosen=1, topic=0.5)
    labels, counts, tokens, keys = by_document(trace, 0)
    whole = counts.sum(0) / tokens.sum()

    def errors(labels):
        found = []
        for name in np.unique(labels):
            own, other = labels == name, labels != name
            share = tokens[own].sum() / tokens.sum()
            variance = [spread_of(member, counts, tokens, whole) for member in (own, other)]
            error = (1 - share) * np.sqrt(variance[0] + variance[1])  # of two groups: F_g - F = (1 - s)(F_g - F_h)
            found.append((counts[own].sum(0) / tokens[own].sum() - whole) / error)
        return np.concatenate(found)

    drawn = np.array([errors(order) for order in metrics.shuffled_labels((labels == "b").astype(int), 199, seed=keys)])
    values = np.vstack([errors(labels), drawn])
    standard = np.abs((values - values.mean(0)) / values.std(0))
    expected = [(standard >= own - 1e-9).mean() for own in standard[0]]
    table = tables.domain_specialization(stats_of(trace))
    np.testing.assert_allclose(pick(table, metric=P)["value"], expected)
    np.testing.assert_allclose(pick(table, metric=FALSE)["value"], false_discovery_control(expected))


def test_a_pair_of_groups_has_its_own_chance_whatever_other_groups_there_are():
    trace = tasting_trace(np.random.default_rng(2), (5, 4, 6), (30, 50, 20), topic=0.5)
    every = pick(tables.group_divergence(stats_of(trace)), group="a", other_group="c")
    alone = trace.select(np.flatnonzero(trace.documents["domain"] != "b"))
    alone = pick(tables.group_divergence(stats_of(alone)), group="a", other_group="c")
    for metric in ("js_divergence_bits", "normalized_js_divergence", "load_cosine"):
        np.testing.assert_allclose(pick(every, metric=metric)["null"], pick(alone, metric=metric)["null"])
    assert (pick(alone, metric="load_cosine")["null"] < 1).all()


@pytest.mark.parametrize("name", TESTED)
def test_topics_that_matter_are_found_and_their_chance_is_that_of_documents(name):
    table = TESTED[name](stats_of(tasting_trace(np.random.default_rng(3), (6, 6, 6), (60, 60, 60), topic=1.0)))
    assert (pick(table, metric=FALSE)["value"] < 0.05).mean() > 0.3
    assert (pick(table, metric=P)["value"] > 0.999 / (200 * (table["metric"] == P).sum())).all()
    metric = {"mutual_information": "mutual_information_bits", "group_divergence": "js_divergence_bits"}.get(name)
    if metric:
        rows = pick(table, metric=metric)
        assert rows["null"].mean() < 0.3 * rows["value"].mean()
        np.testing.assert_allclose(rows["value"] - rows["null"], rows["corrected"], atol=0.1 * rows["value"].max())


@pytest.mark.parametrize("name", TESTED)
def test_fewer_than_20_arrangements_give_no_p_value(name):
    trace = tasting_trace(np.random.default_rng(4), (3, 3), (30, 30))
    table = TESTED[name](stats_of(trace))
    for metric in (P, FALSE):
        rows = pick(table, metric=metric)
        assert rows["value"].isna().all()
        few = "not enough data: distinct arrangements of the labels over documents: 10, 20 are needed"
        assert rows["scope"].str.endswith(few).all()


def test_one_document_in_each_group_has_no_null():
    trace = tasting_trace(np.random.default_rng(5), (1,) * 8, (30,) * 8)
    table = TESTED["mutual_information"](stats_of(trace)).set_index("metric")
    bits = table.loc["mutual_information_bits"]
    assert bits["value"].notna().all()
    assert bits["null"].isna().all()
    assert bits["scope"].str.contains("no null: no tokens, or shuffled labels change nothing").all()
    assert table.loc["mutual_information_share", "value"].isna().all()
    assert pick(tables.group_divergence(stats_of(trace)), metric="load_cosine")["null"].isna().all()


def test_a_layer_without_selected_tokens_says_so_and_leaves_the_others_as_they_are():
    trace = tasting_trace(np.random.default_rng(6), (5, 5), (30, 30))
    part = RoutingStats.from_trace(trace, by="domain", where="layer in 1..2")
    table = tables.domain_specialization(part)
    assert pick(table, layer=0, metric=P)["scope"].str.endswith("not enough data: no tokens").all()
    whole = tables.mutual_information(stats_of(trace))
    for metric in ("mutual_information_bits", "mutual_information_bits_corrected"):
        own = pick(tables.mutual_information(part), variable="domain", metric=metric)
        np.testing.assert_array_equal(own["null"][1:], pick(whole, variable="domain", metric=metric)["null"][1:])


def test_scope_names_shuffles_and_family():
    table = tables.domain_specialization(stats_of(tasting_trace(np.random.default_rng(7), (80, 60), (3, 3))))
    family = "over all layers, groups and experts; no interval: a test"
    units = "labels shuffled over blocks of documents of one group 199 times"
    assert pick(table, metric=P)["scope"].str.endswith(f"{units}, standardised and pooled {family}").all()
    assert pick(table, metric=FALSE)["scope"].str.endswith(f"{units}; Benjamini-Hochberg {family}").all()


def levels(runs, documents, lengths):
    """Of each table [runs, 4] shares of p-values up to the levels, and of runs with a discovery, and bits and null."""
    rng, found = np.random.default_rng(8), {name: [] for name in TESTED}
    for _ in range(runs):
        stats = stats_of(tasting_trace(rng, documents, lengths))
        for name, table_of in TESTED.items():
            table = table_of(stats)
            p, false = (pick(table, metric=metric)["value"].to_numpy() for metric in (P, FALSE))
            found[name].append([*(p[:, None] <= LEVELS).mean(0), (false <= 0.05).any()])
    return {name: np.array(values) for name, values in found.items()}


def check_levels(found, errors):
    mean, error = found.mean(0), found.std(0) / np.sqrt(len(found))
    assert (mean <= [*LEVELS, 0.05] + errors * error).all(), (mean, error)


@pytest.fixture(scope="module")
def few_levels():
    return levels(60, (5, 5), (40, 40))


@pytest.mark.parametrize("name", TESTED)
def test_labels_that_say_nothing_are_seldom_found(name, few_levels):
    check_levels(few_levels[name], 2)


DESIGNS = {
    "even": ((4, 4, 4), (40, 40, 40)),
    "few long": ((12, 6), (15, 90)),
    "few short": ((12, 6), (90, 15)),
    "two of each": ((2,) * 8, (40,) * 8),
}


@pytest.fixture(scope="module")
def many_levels():
    return {design: levels(400, *documents) for design, documents in DESIGNS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_p_values_keep_their_level_and_discoveries_their_rate(name, many_levels):
    # The level of even designs is exact, so that one in 40 of the comparisons lies above two errors by chance.
    for found in many_levels.values():
        check_levels(found[name], 3)
    check_levels(np.concatenate([found[name] for found in many_levels.values()]), 2)
