"""Nulls of the losses: their mean over permutations of each token's expert labels, drawn and in closed form."""

from itertools import permutations, product

import numpy as np
import pytest

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.losses.loss_chance import LossChance
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.trace import Trace
from tests.support.routing import DOMAINS, pick, random_trace

LAYER = "load_balancing_loss"
TABLES = ("balance_loss", "balance_loss_breakdown", "balance_variants", "placement_simulation")
NAMES = ("load_balancing_loss", "load_balancing_loss_pooled", "load_balancing_loss_pooled_part",
         "load_balancing_loss_mean", "contribution", "excess", "pooling_gap_layers", "pooling_gap_groups",
         "load_balancing_loss_gshard", "load_balancing_loss_sequence", "load_balancing_loss_device")  # fmt: skip


def short_trace(chosen=2, fewer=False):
    """Documents of 2 to 12 tokens in windows of 4, in three domains; every fifth token may choose one expert less."""
    trace = random_trace(3, layers=2, tokens=60, documents=9, chosen=chosen)
    document = trace.tokens["document"].to_numpy()
    place = np.arange(len(document)) - np.searchsorted(document, document)
    ids = np.array(trace.expert_ids)
    if fewer:
        ids[:, ::5, -1] = -1
    return rebuilt(trace, ids, np.array(trace.router_logits), place)


def rebuilt(trace, ids, logits, place):
    return Trace.from_arrays(
        expert_ids=ids, router_logits=logits, num_experts=8, document=trace.tokens["document"].to_numpy(),
        chunk=place // 4, position=place % 4,
        documents=[{"id": str(i), "domain": DOMAINS[i % 3]} for i in range(len(trace.documents))],
    )  # fmt: skip


def permuted(trace, rng):
    """The same trace with the experts of every token of every layer renamed."""
    order = rng.random(trace.router_logits.shape).argsort(-1)  # [L, T, E] the new name of each expert
    logits = np.empty_like(trace.router_logits)
    np.put_along_axis(logits, order, trace.router_logits, -1)
    ids = trace.expert_ids.astype(int)
    renamed = np.where(ids >= 0, np.take_along_axis(order, np.maximum(ids, 0), -1), -1)
    place = trace.tokens["chunk"].to_numpy() * 4 + trace.tokens["position"].to_numpy()
    return rebuilt(trace, renamed, logits, place)


def losses(trace):
    """Rows of all losses, one below the other."""
    stats = RoutingStats.from_trace(trace, by="domain")
    found = [tables.TABLES[name].function(stats) for name in TABLES]
    return [table[table["metric"].isin(NAMES)] for table in found]


def check_nulls(chosen, fewer, repeats):
    trace, rng = short_trace(chosen, fewer), np.random.default_rng(0)
    drawn = [losses(permuted(trace, rng)) for _ in range(repeats)]
    for number, table in enumerate(losses(trace)):
        values = np.array([tables_of_one[number]["value"] for tables_of_one in drawn])
        distance = (table["null"] - values.mean(0)) / (values.std(0) / np.sqrt(repeats) + 1e-12)
        assert not table["null"].isna().any()
        for name, part in distance.groupby(table["metric"]):
            assert np.abs(part).max() < 4.5, name  # hundreds of rows
            assert abs(part.mean()) < 1.5, name


@pytest.mark.parametrize(("chosen", "fewer"), [(2, False), (2, True), (1, False), (3, False)])
def test_nulls_are_the_means_over_permuted_labels(chosen, fewer):
    check_nulls(chosen, fewer, repeats=200)


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "fewer"), [(2, False), (2, True)])
def test_nulls_are_the_means_over_many_permuted_labels(chosen, fewer):
    check_nulls(chosen, fewer, repeats=5000)


def test_two_tokens_and_all_their_permutations():
    """3 experts, 1 chosen of each of 2 tokens: 36 equally likely pairs of renamings."""
    p, ids, order = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), [0, 1], list(permutations(range(3)))
    found = []
    for first, second in product(order, order):
        renamed = np.zeros((2, 3))
        for token, names in enumerate((first, second)):
            renamed[token, list(names)] = p[token]
        f = np.bincount([first[ids[0]], second[ids[1]]], minlength=3) / 2
        found.append(3 * (f * renamed.mean(0)).sum())
    chance = metrics.chance_load_balancing_loss(0.5 + 0.2, 2, 2, num_experts=3, chosen=1)
    assert chance == pytest.approx(np.mean(found))
    assert chance == pytest.approx(1 + (3 * 0.35 - 1) / 2)
    assert np.isnan(metrics.chance_load_balancing_loss(0, 0, 0, num_experts=3, chosen=1))


def test_null_of_a_token_averages_to_that_of_its_layer():
    trace = random_trace(4, tokens=40, special=np.arange(40) % 7 == 0)
    parts = tables.balance_loss_tokens(trace)
    each = pick(tables.balance_loss(RoutingStats.from_trace(trace)), metric=LAYER)
    for column in ("value", "null"):
        mean = parts.groupby("layer", observed=True)[column].mean()
        np.testing.assert_allclose(mean, each[column], rtol=1e-12)
    assert (parts["balanced"] == 1).all()


def test_parts_of_the_null_sum_to_their_wholes():
    stats = RoutingStats.from_trace(short_trace(), by="domain")
    loss, parts = tables.balance_loss(stats), tables.balance_loss_breakdown(stats)
    each = pick(loss, metric=LAYER).set_index(["layer", "group"])["null"]
    summed = pick(parts, metric="contribution").groupby(["layer", "group"])["null"].sum()
    np.testing.assert_allclose(summed[each.index], each, rtol=1e-12)
    pooled = pick(loss, metric="load_balancing_loss_pooled").set_index("group")["null"]
    of_layers = pick(loss, metric="load_balancing_loss_pooled_part").groupby("group")["null"].sum()
    np.testing.assert_allclose(of_layers[pooled.index], pooled, rtol=1e-12)


def test_a_sequence_of_one_token_has_its_own_loss_as_null():
    """Whatever the labels: E q / K with q the probability of the token's choices."""
    trace = random_trace(documents=30, tokens=30)
    own = pick(tables.balance_variants(RoutingStats.from_trace(trace)), metric="load_balancing_loss_sequence")
    np.testing.assert_allclose(own["null"], own["value"], rtol=1e-12)
    assert (own["null"] > 1.5).all()
    assert (own["balanced"] == 1).all()


def test_many_tokens_without_preference_are_near_their_null():
    """Sequences of 16 tokens of uniform routing: loss 1.1, as its null says, where the balanced value is 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 16_000, 8)).astype(np.float32)
    trace = Trace.from_arrays(
        expert_ids=np.argsort(-logits, -1)[..., :2], router_logits=logits, num_experts=8,
        document=np.arange(16_000) // 16,
    )  # fmt: skip
    [row] = pick(
        tables.balance_variants(RoutingStats.from_trace(trace)), metric="load_balancing_loss_sequence"
    ).to_dict("records")
    assert row["low"] < row["null"] < row["high"]
    assert row["low"] > 1.05


def test_chance_has_a_method_for_every_loss_that_depends_on_labels():
    methods = {name for name in vars(LossParts) if not name.startswith("_")}
    assert methods - set(vars(LossChance)) == {
        "share", "probability", "z_loss", "z_loss_mean", "gap_groups_without",
    }  # fmt: skip
