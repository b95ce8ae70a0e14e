"""Tables that read a trace window by window, of selections: against traces of the selected tokens alone."""

import numpy as np
import pandas as pd
import pytest

from mixtral_probe import metrics, tables
from mixtral_probe.selection import mask, select
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace

SIMULATIONS = ("cache_simulation", "capacity_simulation", "skipping_simulation")
EVERYWHERE = "token_id < 25 and position >= 2"
IN_SOME_LAYERS = "entropy < 0.8 and token_id < 30"


@pytest.fixture(scope="module")
def trace():
    rng = np.random.default_rng(4)
    special = np.zeros(400, bool)
    special[::40] = True
    owner = random_trace(8, tokens=400, documents=9).tokens["document"]
    windows = owner.groupby(owner).cumcount().to_numpy() // 20
    return random_trace(
        8, tokens=400, documents=9, weights=True, token_ids=rng.integers(0, 40, 400), special=special, chunk=windows
    )


def alone(trace, kept, layers=None):
    """A trace of nothing but these tokens, and of these layers."""
    layers = np.arange(trace.num_layers) if layers is None else np.array(layers)
    return Trace.from_arrays(
        expert_ids=trace.expert_ids[layers][:, kept],
        expert_weights=trace.expert_weights[layers][:, kept],
        document=trace.tokens["document"].to_numpy()[kept],
        chunk=trace.tokens["chunk"].to_numpy()[kept],
        special=trace.tokens["special"].to_numpy(bool)[kept],
        num_experts=trace.num_experts,
        documents=trace.documents.to_dict("records"),
        moe_layers=[trace.layers[layer] for layer in layers],
    )


def assert_same(table, other, rtol=0.0):
    """All but the scopes."""
    numbers = [frame.drop(columns="scope").reset_index(drop=True) for frame in (table, other)]
    pd.testing.assert_frame_equal(*numbers, rtol=rtol, atol=0)


@pytest.mark.parametrize("name", [*SIMULATIONS, "paths"])
@pytest.mark.parametrize("include_special", [False, True])
def test_tokens_selected_in_all_layers_count_as_if_there_were_no_others(trace, name, include_special):
    function, kept = tables.TABLES[name].function, mask(trace, EVERYWHERE)
    assert (kept == kept[0]).all()
    assert 0 < kept[0].sum() < len(trace)
    selected = function(select(trace, EVERYWHERE), by="domain", include_special=include_special)
    assert_same(selected, function(alone(trace, kept[0]), by="domain", include_special=include_special))
    scopes = selected["scope"].str.contains(f"; where {EVERYWHERE}", regex=False)
    assert scopes.all()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_each_layer_has_windows_of_what_is_selected_there(trace, name):
    function, kept = tables.TABLES[name].function, mask(trace, IN_SOME_LAYERS)
    table = function(select(trace, IN_SOME_LAYERS), by="domain")
    assert len({int(layer.sum()) for layer in kept}) == 3
    for layer in range(3):
        reference = function(alone(trace, kept[layer], [layer]), by="domain")
        own = pick(table, layer=layer)
        assert_same(own, pick(reference, layer=layer), rtol=1e-12)


def test_the_null_of_all_layers_is_the_mean_over_choices(trace):
    table = tables.cache_simulation(select(trace, IN_SOME_LAYERS), capacities=[3, 5])
    choices = mask(trace, IN_SOME_LAYERS)[:, ~trace.tokens["special"].to_numpy(bool)].sum(1) * 2
    for policy in metrics.POLICIES:
        own = pick(table, policy=policy, capacity=5, metric="hit_rate_sequential")
        by_layer = own[own["layer"].notna()]
        assert policy not in ("lru", "lfu") or by_layer["null"].nunique() == 3
        assert pick(own, layer=None)["null"].item() == pytest.approx(np.average(by_layer["null"], weights=choices))
    drops = pick(tables.capacity_simulation(select(trace, IN_SOME_LAYERS)), capacity_factor=1.0, bin=None)
    by_layer = drops[drops["layer"].notna()]
    assert pick(drops, layer=None)["null"].item() == pytest.approx(np.average(by_layer["null"], weights=choices))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_the_rows_of_a_layer_stay_when_layers_are_selected(trace, name):
    function = tables.TABLES[name].function
    table, whole = function(select(trace, "layer in 1..2")), function(trace)
    for layer in (1, 2):
        assert_same(pick(table, layer=layer), pick(whole, layer=layer), rtol=1e-12)
    assert pick(table, layer=0)["value"].isna().all()
    assert pick(table, layer=0)["scope"].str.contains("not enough data: no tokens").all()
    both = function(alone(trace, np.ones(len(trace), bool), [1, 2]))
    assert_same(pick(table, layer=None), pick(both, layer=None), rtol=1e-12)


def test_paths_go_through_the_selected_layers(trace):
    table = tables.paths(select(trace, "layer in 1..2"))
    assert_same(table, tables.paths(alone(trace, np.ones(len(trace), bool), [1, 2])))
    scope = "first choices through the selected layers 1, 2; special tokens out; where layer in 1..2"
    about = "95 % interval of `corrected`, the value without the bias of few documents"
    shares = pick(table, metric="path_share")
    assert shares["scope"].str.startswith(f"{scope}; ").all()
    assert shares.loc[shares["low"].notna(), "scope"].eq(f"{scope}; {about}").all()
    assert (
        shares.loc[shares["low"].isna(), "scope"].str.contains("it occurs in . documents?: no interval below 5").all()
    )
    assert pick(table, metric="path_share")["path"].str.fullmatch(r"\d-\d").all()


def test_paths_are_of_tokens_selected_in_all_of_their_layers(trace):
    kept = mask(trace, IN_SOME_LAYERS)
    table = tables.paths(select(trace, IN_SOME_LAYERS))
    assert_same(table, tables.paths(alone(trace, kept.all(0))))
    assert set(table["n"]) == {int((kept.all(0) & ~trace.tokens["special"].to_numpy(bool)).sum())}


@pytest.mark.parametrize("name", [*SIMULATIONS, "paths"])
def test_nothing_selected_is_said(trace, name):
    table = tables.TABLES[name].function(select(trace, "token_id > 99"), by="domain")
    assert table["value"].isna().all()
    assert table["n"].eq(0).all()
    assert table["scope"].str.contains("not enough data: no tokens").all()


def test_ranks_are_loaded_by_the_selected_layers_alone(trace):
    table = tables.placement_simulation(RoutingStats.from_trace(trace, where="layer in 1..2"), ranks=[4])
    both = alone(trace, np.ones(len(trace), bool), [1, 2])
    whole = tables.placement_simulation(RoutingStats.from_trace(both), ranks=[4])
    simulated = whole["metric"] != "load_balancing_loss_device"
    assert_same(pick(table, layer=None), pick(whole[simulated], layer=None))


def test_the_null_of_all_ranks_is_the_mean_over_loads(trace):
    stats = RoutingStats.from_trace(trace, where=IN_SOME_LAYERS)
    own = pick(tables.placement_simulation(stats, ranks=[4], spare=[0]), metric="rank_imbalance")
    by_layer = own[own["layer"].notna()]
    mean = np.average(by_layer["null"], weights=by_layer["n"].astype(int))
    assert pick(own, layer=None)["null"].item() == pytest.approx(mean)
    assert pick(own, layer=None)["value"].item() == pytest.approx(
        np.average(by_layer["value"], weights=by_layer["n"].astype(int))
    )
