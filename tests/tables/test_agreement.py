"""Agreement of two traces and saturation over training: known answers, counts by hand, and what cannot be compared."""

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import pair
from mixtral_probe.tables import COMPARISONS
from mixtral_probe.trace import Trace, training_traces
from tests.support.routing import pick, random_trace
from tests.support.tables import check_rows


def trace_of(ids, document=None, labels=None, **more):
    ids = np.asarray(ids)
    document = np.zeros(ids.shape[1], int) if document is None else np.asarray(document)
    documents = [{"id": f"d{i}", "domain": (labels or "ab")[i % 2]} for i in range(document.max() + 1)]
    return Trace.from_arrays(expert_ids=ids, document=document, documents=documents, **{"num_experts": 8, **more})


def uniform(seed, tokens=20_000, layers=2):
    ids = np.random.default_rng(seed).random((layers, tokens, 8)).argsort(-1)[..., :2]
    return trace_of(ids, np.arange(tokens) * 20 // tokens)


def value(table, metric, **keys):
    return pick(table, metric=metric, **{"group": "all", "expert": None, **keys})["value"].item()


def test_equal_captures_agree_wholly_and_independent_ones_by_chance():
    a, b = uniform(0), uniform(1)
    same, other = tables.agreement(a, a), tables.agreement(a, b)
    for metric, chance in (("set_overlap", 0.25), ("first_agreement", 0.125), ("same_set", 1 / 28)):
        for layer in (0, 1, None):
            assert value(same, metric, layer=layer) == 1
            assert value(other, metric, layer=layer) == pytest.approx(chance, abs=0.01)
        assert set(pick(other, metric=metric)["null"]) == {chance}
    assert value(same, "any_layer_differs", layer=None) == 0
    moved = pick(other, metric="any_layer_differs")
    assert moved["null"].item() == pytest.approx(1 - 1 / 28**2)
    assert moved["value"].item() == pytest.approx(moved["null"].item(), abs=0.002)
    assert pick(same, metric="share_change")["value"].eq(0).all()


def test_agreement_counted_by_hand():
    a = trace_of([[[0, 1], [2, 3], [4, 5], [0, 1]], [[0, 1], [0, 1], [0, 1], [0, 1]]], [0, 0, 1, 1])
    b = trace_of([[[1, 0], [2, 4], [6, 7], [0, 1]], [[0, 1], [0, 1], [0, 2], [0, 1]]], [0, 0, 1, 1])
    table = tables.agreement(a, b, by="domain")
    assert value(table, "set_overlap", layer=0) == (1 + 0.5 + 0 + 1) / 4
    assert value(table, "first_agreement", layer=0) == 2 / 4
    assert value(table, "same_set", layer=0) == 2 / 4
    assert value(table, "set_overlap", layer=None) == (2.5 + 3.5) / 8
    assert value(table, "any_layer_differs", layer=None) == 2 / 4
    assert value(table, "any_layer_differs", layer=None, group="a") == 1 / 2
    change = pick(table, metric="share_change", layer=0, group="all").set_index("expert")["value"]
    assert change.tolist() == [0, 0, 0, -1 / 8, 0, -1 / 8, 1 / 8, 1 / 8]
    assert pick(table, metric="share_change")["n"].isin([2, 4]).all()


def test_intervals_of_what_changed_are_paired():
    """Documents differ much among themselves, and by the same little from A to B: only a paired interval is short."""
    rng, ids = np.random.default_rng(0), []
    for _ in range(20):
        favourite = rng.integers(0, 7)
        ids.append(np.where(rng.random((100, 1)) < 0.6, [[favourite, 7]], rng.random((100, 7)).argsort(-1)[:, :2]))
    a = np.concatenate(ids)[None]
    b = a.copy()
    b[0, ::25] = [0, 1]
    document = np.repeat(np.arange(20), 100)
    gained = pick(tables.agreement(trace_of(a, document), trace_of(b, document)), metric="share_change", expert=7)
    alone = [tables.expert_load(mp_stats(trace_of(x, document))) for x in (a, b)]
    widths = [pick(load, metric="share", expert=7)[["low", "high"]].diff(axis=1)["high"].item() for load in alone]
    assert gained["high"].item() < 0
    assert gained["high"].item() - gained["low"].item() < 0.5 * min(widths)


def mp_stats(trace):
    from mixtral_probe.stats import RoutingStats

    return RoutingStats.from_trace(trace)


def test_documents_in_another_order_are_put_in_order():
    a = random_trace(documents=5, tokens=60)
    b = a.select([3, 1, 4, 0, 2])
    found, expected = pair(a, b, "domain"), pair(a, a, "domain")
    np.testing.assert_array_equal(found.sums["set_overlap"], expected.sums["set_overlap"])
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def test_special_tokens_and_tokens_without_experts_are_left_out():
    a = trace_of([[[0, 1], [2, 3], [-1, -1], [4, 5]]], special=[True, False, False, False])
    b = trace_of([[[6, 7], [2, 3], [0, 1], [4, 6]]], special=[True, False, False, False])
    table = tables.agreement(a, b)
    assert value(table, "set_overlap", layer=0) == 0.75
    assert pick(table, metric="set_overlap", layer=0)["n"].item() == 2
    assert value(tables.agreement(a, b, include_special=True), "set_overlap", layer=0) == 0.5


def test_sets_of_fewer_experts_than_k():
    a = trace_of([[[0, 1], [2, -1], [3, -1], [4, 5]]])
    b = trace_of([[[0, 1], [2, -1], [3, 6], [5, 4]]])
    table = tables.agreement(a, b)
    assert value(table, "set_overlap", layer=0) == (1 + 1 + 0.5 + 1) / 4
    assert value(table, "same_set", layer=0) == 3 / 4
    assert value(table, "set_jaccard", layer=0) == (1 + 1 + 0.5 + 1) / 4
    assert value(table, "set_hamming", layer=0) == 1 / 4
    nulls = pick(table, layer=0, group="all", expert=None).set_index("metric")["null"]
    assert nulls["set_overlap"] == pytest.approx((2 / 8 + 1 / 8 + (1 / 4) / 2 + 2 / 8) / 4)
    assert nulls["same_set"] == pytest.approx((1 / 28 + 1 / 8 + 0 + 1 / 28) / 4)
    assert nulls["set_hamming"] == pytest.approx((3 + 2 * 7 / 8 + (3 / 4 * 3 + 1 / 4) + 3) / 4)
    last = pick(tables.saturation({1: a, 2: b}), step=2)
    assert (last["value"] == 1).all()


def test_saturation_ends_at_one_and_begins_at_chance():
    final = uniform(0)
    half = np.asarray(final.expert_ids).copy()
    half[:, ::2] = uniform(1).expert_ids[:, ::2]
    table = tables.saturation({100: final, 0: uniform(2), 50: trace_of(half, final.tokens["document"])})
    assert table["step"].drop_duplicates().tolist() == [0, 50, 100]
    for metric, chance in (("saturation", 0.25), ("saturation_first", 0.125)):
        by_step = pick(table, metric=metric, layer=0)["value"].tolist()
        np.testing.assert_allclose(by_step, [chance, (1 + chance) / 2, 1], atol=0.01)
        assert set(pick(table, metric=metric)["null"]) == {chance}
    assert table["scope"].str.contains("against step 100").all()


def test_a_folder_of_training_traces(tmp_path):
    for step in (50, 0, 2000):
        uniform(step, tokens=40).save(tmp_path / f"step-{step:05d}.trace")
    (tmp_path / "notes.txt").write_text("not a trace")
    traces = training_traces(tmp_path)
    assert list(traces) == [0, 50, 2000]
    assert tables.saturation(traces, by="domain")["group"].unique().tolist() == ["a", "all", "b"]
    with pytest.raises(InputError, match=r"folders such as step-00050\.trace"):
        training_traces(tmp_path / "step-00000.trace")
    with pytest.raises(InputError, match="at least two steps, got 1"):
        tables.saturation({0: traces[0]})


@pytest.mark.parametrize("case", ["plain", "one document", "one token", "every expert", "no tokens"])
def test_tables_of_comparisons_keep_the_contract(case):
    cases = {
        "plain": {},
        "one document": {"documents": 1},
        "one token": {"tokens": 1, "documents": 1},
        "every expert": {"experts": 3, "chosen": 3},
        "no tokens": {"special": np.ones(200, bool)},
    }
    a = random_trace(**cases[case])
    made = {
        "agreement": tables.agreement(a, a, by="domain"),
        "saturation": tables.saturation({0: a, 1: a}, by="domain"),
    }
    for name, table in made.items():
        spec = COMPARISONS[name]
        assert list(table.columns) == list(spec.columns)
        assert set(table["metric"]) == set(spec.metrics)
        assert not table.duplicated([*spec.keys, "metric"]).any()
        check_rows(table)


def test_what_cannot_be_compared_is_said():
    a = random_trace(documents=3, tokens=30, token_ids=np.arange(30))
    with pytest.raises(InputError, match="3 layers × 8 experts, 2 per token and 2 layers × 4"):
        tables.agreement(a, random_trace(layers=2, experts=4))
    with pytest.raises(InputError, match="of the same texts, got document '0-2' in the first alone"):
        tables.agreement(a, a.select([0, 1]))
    with pytest.raises(InputError, match="document '0-2' in the second alone"):
        tables.agreement(a.select([0, 1]), a)
    words = np.arange(30)
    words[7] = 99
    changed = random_trace(documents=3, tokens=30, token_ids=words)
    row = a.tokens.iloc[7]
    place = f"'0-{row['document']}' different from token {row['position']} of window 0 on"
    with pytest.raises(InputError, match=place):
        tables.agreement(a, changed)
    longer = trace_of(np.zeros((1, 4, 1), int))
    with pytest.raises(InputError, match="document 'd0' different from token 3 of window 0 on"):
        tables.agreement(trace_of(np.zeros((1, 3, 1), int)), longer)
    twice = Trace.from_arrays(
        expert_ids=np.zeros((1, 2, 1), int), num_experts=8, document=[0, 1], documents=[{"id": "d0"}, {"id": "d0"}]
    )
    with pytest.raises(InputError, match="several documents with one id"):
        tables.agreement(trace_of(np.zeros((1, 2, 1), int)), twice)
