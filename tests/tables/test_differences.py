"""Differences of groups, layers and slices against scipy's paired and two-sample intervals, and by brute force."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mixtral_probe import InputError, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace


def even_trace(documents=12, length=30, layers=3, seed=0):
    """Documents of one length in two domains, so that means over tokens are means over documents."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(layers, documents, 1, 8)) + 0.5 * np.arange(layers).reshape(-1, 1, 1, 1)
    logits = (taste + rng.normal(size=(layers, documents, length, 8))).reshape(layers, -1, 8).astype(np.float32)
    return Trace.from_arrays(
        expert_ids=np.argsort(-logits, -1)[..., :2].astype(np.int16),
        router_logits=logits,
        document=np.repeat(np.arange(documents), length),
        documents=[{"id": str(number), "domain": "ab"[number % 2]} for number in range(documents)],
    )


def z_by_document(trace, layer, documents=12):
    z = np.log(np.exp(trace.router_logits[layer].astype(float)).sum(-1)) ** 2
    return z.reshape(documents, -1).mean(1)


def test_two_groups_are_compared_as_welch_does():
    trace = even_trace()
    table = tables.group_differences(RoutingStats.from_trace(trace, by="domain"))
    for layer in range(3):
        z = z_by_document(trace, layer)
        test = scipy_stats.ttest_ind(z[1::2], z[::2], equal_var=False)
        row = pick(table, layer=layer, metric="router_z_loss_difference").iloc[0]
        low, high = test.confidence_interval(0.95)
        assert (row["value"], row["corrected"]) == pytest.approx((z[1::2].mean() - z[::2].mean(),) * 2, rel=1e-6)
        assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-6)
        assert (row["group"], row["other_group"], row["n"]) == ("a", "b", 360)


def test_two_layers_are_compared_as_a_paired_t_test_does():
    trace = even_trace()
    table = tables.layer_differences(RoutingStats.from_trace(trace))
    assert len(pick(table, metric="cv_squared_difference")) == 3
    low, high = scipy_stats.ttest_rel(z_by_document(trace, 2), z_by_document(trace, 0)).confidence_interval(0.95)
    row = pick(table, layer=0, other_layer=2, metric="router_z_loss_difference").iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-6)
    assert row["n"] == 360


def test_what_documents_have_in_common_cancels_in_a_pair():
    """Both layers follow the document, layer 1 always a little more: the values overlap, the difference does not."""
    rng = np.random.default_rng(1)
    loud = np.repeat(rng.uniform(1, 4, 10), 40)
    noise = rng.normal(size=(400, 8))
    logits = np.stack([noise * loud[:, None], noise * (loud[:, None] + 0.05)]).astype(np.float32)
    trace = Trace.from_arrays(
        expert_ids=np.argsort(-logits, -1)[..., :2], router_logits=logits, document=np.repeat(range(10), 40)
    )
    stats = RoutingStats.from_trace(trace)
    alone = pick(tables.router_confidence(stats), metric="router_entropy", statistic="mean").set_index("layer")
    assert alone.loc[0, "low"] < alone.loc[1, "high"]
    both = pick(tables.layer_differences(stats), metric="router_entropy_difference").iloc[0]
    assert both["high"] < 0
    assert both["value"] == pytest.approx(alone.loc[1, "value"] - alone.loc[0, "value"])


def test_slices_of_the_same_documents_are_paired_and_those_of_others_are_two_samples():
    trace = even_trace()
    first, second = (RoutingStats.from_trace(trace, where=where) for where in ("position < 15", "position >= 15"))
    z = np.log(np.exp(trace.router_logits[1].astype(float)).sum(-1)) ** 2
    halves = z.reshape(12, 2, 15).mean(-1)
    row = pick(tables.slice_differences(first, second), layer=1, metric="router_z_loss_difference").iloc[0]
    low, high = scipy_stats.ttest_rel(halves[:, 1], halves[:, 0]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-6)
    assert "position >= 15" in row["scope"]
    assert "documents with tokens in both are paired" in row["scope"]
    a, b = (RoutingStats.from_trace(trace, where=f'domain == "{name}"') for name in "ab")
    apart = tables.slice_differences(a, b).drop(columns=["group", "scope"])
    groups = tables.group_differences(RoutingStats.from_trace(trace, by="domain"))
    assert apart.equals(groups.drop(columns=["group", "other_group", "scope"]))


def test_an_expert_is_used_more_by_one_group():
    trace = even_trace()
    stats = RoutingStats.from_trace(trace, by="domain")
    row = pick(
        tables.group_differences(stats), layer=1, expert=3, metric="selection_frequency_difference"
    ).iloc[0]  # fmt: skip
    used = (trace.expert_ids[1] == 3).any(-1).reshape(12, 30).mean(1)
    test = scipy_stats.ttest_ind(used[1::2], used[::2], equal_var=False)
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9)
    assert row["null"] == 0


def test_groups_of_four_documents_have_no_interval():
    table = tables.group_differences(RoutingStats.from_trace(even_trace(8), by="domain"))
    assert table["low"].isna().all()
    assert table["scope"].str.endswith("a group of 4 documents: no interval below 5").all()


def test_what_cannot_be_compared_is_said():
    one = RoutingStats.from_trace(random_trace(layers=1))
    assert "two groups are needed" in tables.group_differences(one).attrs["note"]
    assert "two layers" in tables.layer_differences(one).attrs["note"]
    with pytest.raises(InputError, match="models of one shape"):
        tables.slice_differences(one, RoutingStats.from_trace(random_trace(layers=2)))
    with pytest.raises(InputError, match="the same was recorded"):
        tables.slice_differences(one, RoutingStats.from_trace(random_trace(layers=1, logits=False)))


def coverage(documents, repeats, seed=0):
    """How often the interval of a difference holds it: groups whose documents differ, layers that follow a document."""
    rng, hits = np.random.default_rng(seed), []
    for _ in range(repeats):
        taste = rng.normal(size=(documents, 8)) + np.where(np.arange(documents)[:, None] % 2, [1.0] + [0.0] * 7, 0)
        p = np.exp(taste) / np.exp(taste).sum(1, keepdims=True)
        ids = np.stack([(rng.random((documents, 50, 1)) > p.cumsum(1)[:, None]).sum(-1) for _ in range(2)])
        trace = Trace.from_arrays(
            expert_ids=ids.reshape(2, -1, 1).clip(max=7), document=np.repeat(range(documents), 50), num_experts=8,
            documents=[{"id": str(n), "domain": "ab"[n % 2]} for n in range(documents)],
        )  # fmt: skip
        stats = RoutingStats.from_trace(trace, by="domain")
        groups = pick(tables.group_differences(stats), layer=0, expert=0, metric="selection_frequency_difference")
        layers = pick(tables.layer_differences(stats), group="all", metric="normalized_entropy_difference")
        hits.append((groups.iloc[0][["low", "high"]], layers.iloc[0][["low", "high"]]))
    # The truth of layers alike is 0; that of the groups is the mean of the softmax, by a large sample.
    draws = np.random.default_rng(99).normal(size=(400_000, 8))
    shares = [
        np.exp(draws + shift) / np.exp(draws + shift).sum(1, keepdims=True) for shift in ([0.0] * 8, [1.0] + [0.0] * 7)
    ]
    truth = shares[1][:, 0].mean() - shares[0][:, 0].mean()
    of_groups = np.mean([low <= truth <= high for (low, high), _ in hits])
    return of_groups, np.mean([low <= 0 <= high for _, (low, high) in hits])


def test_intervals_of_differences_hold_the_truth():
    assert min(coverage(20, 60)) >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 60)


@pytest.mark.slow
@pytest.mark.parametrize("documents", [10, 40])
def test_intervals_of_differences_hold_the_truth_92_times_of_100(documents):
    assert min(coverage(documents, 1000)) >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 1000)
