"""The balance-loss tables: exact identities, transformers as oracle, the synthetic inputs with known answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from tests.support.routing import collapsed, fixed_trace, pick, random_trace

seeds = st.integers(0, 10**6)
LAYER, POOLED = "load_balancing_loss", "load_balancing_loss_pooled"


def stats_of(ids, logits, by=None, **more):
    return RoutingStats.from_trace(fixed_trace(ids, logits, **more), by=by)


def loss(table, metric, layer=None, group="all"):
    return pick(table, metric=metric, layer=layer, group=group)["value"].item()


def test_even_logits_give_one_whatever_is_chosen():
    ids = np.argsort(np.random.default_rng(0).random((3, 50, 8)), -1)[..., :2]
    table = tables.balance_loss(stats_of(ids, np.zeros((3, 50, 8))))
    assert loss(table, LAYER, 1) == pytest.approx(1, abs=1e-12)
    assert loss(table, POOLED) == pytest.approx(2, abs=1e-12)
    assert loss(table, "router_z_loss", 1) == pytest.approx(4.324077, abs=1e-6)
    assert loss(table, "router_z_loss") == pytest.approx(np.log(8) ** 2, abs=1e-12)


def test_all_tokens_on_two_experts():
    table = tables.balance_loss(stats_of(*collapsed([(2, 5)], 10)))
    assert loss(table, LAYER, 0) == pytest.approx(4, abs=1e-12)
    assert loss(table, POOLED) == pytest.approx(8, abs=1e-12)


def test_pooling_layers_hides_opposite_imbalance():
    stats = stats_of(*collapsed([(0, 1), (2, 3)], 10))
    table = tables.balance_loss(stats)
    assert loss(table, LAYER, 0) == loss(table, LAYER, 1) == pytest.approx(4, abs=1e-12)
    assert loss(table, POOLED) == pytest.approx(4, abs=1e-12)
    gap = pick(tables.balance_loss_breakdown(stats), metric="pooling_gap_layers")["value"].sum()
    assert gap == pytest.approx(2, abs=1e-12)


def test_sequences_each_collapsed_on_other_experts():
    ids, logits = (
        np.concatenate(list(array), axis=0)[None] for array in collapsed([(0, 1), (2, 3), (4, 5), (6, 7)], 5)
    )
    documents = [{"name": name} for name in "abcd"]
    stats = stats_of(ids, logits, by="name", document=np.repeat(range(4), 5), documents=documents)
    table = tables.balance_loss(stats)
    assert loss(table, LAYER, 0) == pytest.approx(1, abs=1e-12)
    assert loss(table, LAYER, 0, "c") == pytest.approx(4, abs=1e-12)
    gap = pick(tables.balance_loss_breakdown(stats), metric="pooling_gap_groups")["value"].sum()
    assert gap == pytest.approx(3, abs=1e-12)


@settings(deadline=None, max_examples=6)
@given(seeds, st.integers(2, 8), st.data())
def test_parts_sum_to_their_wholes(seed, experts, data):
    chosen = data.draw(st.integers(1, experts))
    trace = random_trace(seed, tokens=60, experts=experts, chosen=chosen)
    stats = RoutingStats.from_trace(trace, by="domain")
    losses, parts = tables.balance_loss(stats), tables.balance_loss_breakdown(stats)
    each = pick(losses, metric=LAYER).set_index(["layer", "group"])["value"]
    for metric, offset in (("contribution", 0), ("excess", 1)):
        summed = pick(parts, metric=metric).groupby(["layer", "group"])["value"].sum() + offset
        np.testing.assert_allclose(summed[each.index], each, rtol=0, atol=1e-12)
    for group in (*stats.groups, "all"):
        pooled_parts = pick(losses, metric="load_balancing_loss_pooled_part", group=group)["value"]
        assert pooled_parts.sum() == pytest.approx(loss(losses, POOLED, group=group), abs=1e-12)
        mean = each.xs(group, level="group").mean()
        assert loss(losses, "load_balancing_loss_mean", group=group) == pytest.approx(mean, abs=1e-12)
        gap = pick(parts, metric="pooling_gap_layers", group=group)["value"].sum()
        assert gap == pytest.approx(mean - loss(losses, POOLED, group=group) / chosen, abs=1e-12)
    for layer in range(3):
        groups = pick(losses, metric=LAYER, layer=layer).query("group != 'all'")
        mean = np.average(groups["value"], weights=groups["n"].astype(float))
        gap = pick(parts, metric="pooling_gap_groups", layer=layer)["value"].sum()
        assert gap == pytest.approx(mean - each[layer, "all"], abs=1e-12)


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_token_parts_average_to_the_layers_loss(seed):
    trace = random_trace(seed, tokens=50, special=np.arange(50) % 9 == 0)
    parts = tables.balance_loss_tokens(trace).groupby("layer", observed=True)["value"].mean()
    each = pick(tables.balance_loss(RoutingStats.from_trace(trace)), metric=LAYER).set_index("layer")["value"]
    np.testing.assert_allclose(parts[each.index], each, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (4, 1), (6, 3)])
def test_pooled_loss_is_that_of_transformers(experts, chosen):
    trace = random_trace(4, tokens=120, experts=experts, chosen=chosen)
    logits = tuple(torch.from_numpy(np.array(layer)) for layer in trace.router_logits)
    expected = load_balancing_loss_func(logits, experts, chosen).item()
    table = tables.balance_loss(RoutingStats.from_trace(trace))
    assert loss(table, POOLED) == pytest.approx(expected, rel=1e-6)


def test_pooled_loss_is_that_of_transformers_with_padding_masked():
    rng = np.random.default_rng(0)
    lengths, width = [7, 12, 3], 12
    logits = rng.normal(size=(2, 3, width, 8)).astype(np.float32)
    mask = np.arange(width) < np.array(lengths)[:, None]  # [B, S]
    flat = tuple(torch.from_numpy(layer.reshape(-1, 8)) for layer in logits)
    expected = load_balancing_loss_func(flat, 8, 2, torch.from_numpy(mask.astype(np.int64))).item()
    kept = logits[:, mask]  # [L, T, E]: a trace holds no padding
    ids = np.argsort(-kept, -1)[..., :2]
    table = tables.balance_loss(stats_of(ids, kept, document=np.repeat(range(3), lengths)))
    assert loss(table, POOLED) == pytest.approx(expected, rel=1e-6)


def test_nulls_and_intervals():
    table = tables.balance_loss(RoutingStats.from_trace(random_trace(documents=12)))
    assert set(pick(table, metric=LAYER)["balanced"]) == {1}
    assert pick(table, metric=POOLED)["balanced"].item() == 2
    assert (table["low"] <= table["high"]).all()
    assert (pick(table, metric="router_z_loss")["balanced"] == np.log(8) ** 2).all()
    assert pick(table, metric="router_z_loss")["null"].isna().all()


def test_pooling_over_groups_needs_groups():
    parts = tables.balance_loss_breakdown(RoutingStats.from_trace(random_trace()))
    assert set(parts["metric"]) == {"contribution", "excess", "pooling_gap_layers"}
    assert set(pick(parts, metric="pooling_gap_layers")["layer"].isna()) == {True}
