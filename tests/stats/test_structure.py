"""Pairs, repeats, transitions, positions and token affinity against plain loops over the tokens."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.stats import MAX_LAG, TARGETS, RoutingStats, document_keys, storage, structure
from tests.support.routing import random_trace


def trace_with_gaps(seed=0, tokens=90, **more):
    """Windows, special tokens, a choice of one expert only, a token without any."""
    rng = np.random.default_rng(seed)
    base = random_trace(seed, layers=3, tokens=tokens, documents=4, experts=5)
    owner = base.tokens["document"].to_numpy()
    ids = base.expert_ids.copy()
    ids[1, 7, 1] = -1
    ids[2, 11] = -1
    starts = np.concatenate([[0], np.flatnonzero(np.diff(owner)) + 1])
    within = np.arange(tokens) - starts[owner]
    return type(base).from_arrays(
        expert_ids=ids, document=owner, num_experts=5, chunk=within // 9, special=rng.random(tokens) < 0.1,
        token_ids=rng.integers(-1, 6, tokens), predicted_id=np.roll(np.arange(tokens) % 4, 1), documents=[
            {"id": f"{name}", "domain": "xy"[i % 2]} for i, name in enumerate("abcd")
        ], **more,
    )  # fmt: skip


def follows(trace, t, lag):
    """Whether token t + lag is in the window of t, with nothing special from t to it."""
    rows = trace.tokens.iloc[t : t + lag + 1]
    one = rows["document"].nunique() == rows["chunk"].nunique() == 1
    return len(rows) == lag + 1 and one and not rows["special"].any()


@pytest.mark.parametrize("elements", [2**20, 60])
def test_structure_by_brute_force(monkeypatch, elements):
    monkeypatch.setattr(structure, "_PIECE_ELEMENTS", elements)  # 60: pieces of 10 tokens
    trace = trace_with_gaps()
    found = RoutingStats.from_trace(trace).structure.map(lambda array: array.sum((1, 2)))
    expected = {name: np.zeros(array.shape, int) for name, array in found.arrays().items()}
    position, special = trace.tokens["position"].to_numpy(), trace.tokens["special"].to_numpy()
    for t in np.flatnonzero(~special):
        for layer in range(3):
            chosen = [int(e) for e in trace.expert_ids[layer, t] if e >= 0]
            for i in chosen:
                expected["positions"][layer, int(position[t]).bit_length(), i] += 1
                for j in chosen:
                    expected["pairs"][layer, i, j] += i != j
            if layer < 2 and chosen and trace.expert_ids[layer + 1, t, 0] >= 0:
                expected["transitions"][layer, chosen[0], trace.expert_ids[layer + 1, t, 0]] += 1
            if layer < 2:
                then = [int(e) for e in trace.expert_ids[layer + 1, t] if e >= 0]
                if chosen and then:
                    expected["transition_choices"][layer, len(chosen) - 1, len(then) - 1] += 1
                for i, j in product(chosen, then):
                    expected["transitions_all"][layer, i, j] += 1
            for lag in range(1, MAX_LAG + 1):
                later = [int(e) for e in trace.expert_ids[layer, t + lag] if e >= 0] if t + lag < len(trace) else []
                if chosen and later and follows(trace, t, lag):
                    common = len(set(chosen) & set(later))
                    expected["repeats"][layer, lag - 1, int(chosen[0] == later[0]), common] += 1
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert expected["repeats"].sum() > 50


def test_sets_by_brute_force():
    base = random_trace(3, layers=2, tokens=300, documents=4, experts=6, chosen=4)
    ids = base.expert_ids.copy()
    ids[1, 5, 3], ids[1, 6, 1:], ids[1, 7] = -1, -1, -1  # three experts, one, and none
    special = np.arange(300) % 50 == 0
    trace = type(base).from_arrays(
        expert_ids=ids, num_experts=6, special=special, document=base.tokens["document"].to_numpy()
    )
    held = RoutingStats.from_trace(trace).structure.sets.sum((1, 2))
    for layer in range(2):
        kept = [tuple(sorted(row)) for t, row in enumerate(ids[layer].tolist()) if not special[t] and max(row) >= 0]
        met = Counter(kept)
        assert met == {own: held[layer, metrics.set_index(own, 6)] for own in met}
        assert held[layer].sum() == len(kept)


@pytest.mark.parametrize(
    ("experts", "chosen", "sets"), [(8, 2, 0), (8, 1, 0), (8, 3, 92), (8, 8, 255), (16, 4, 0), (16, 15, 0)]
)
def test_sets_are_told_apart_where_pairs_do_not_tell_them_and_they_are_few(experts, chosen, sets):
    trace = random_trace(experts=experts, chosen=chosen)
    assert RoutingStats.from_trace(trace).structure.sets.shape[-1] == sets


def test_sets_of_a_file_of_an_earlier_version_are_the_first():
    earlier = np.arange(56)[None]
    widened = structure.sets_of_earlier(earlier, 8, 3)
    np.testing.assert_array_equal(widened, np.pad(earlier, ((0, 0), (0, 92 - 56))))
    np.testing.assert_array_equal(structure.sets_of_earlier(widened, 8, 3), widened)
    assert structure.sets_of_earlier(np.ones((1, 16)), 16, 15).shape == (1, 0)


def test_affinity_by_brute_force():
    trace = trace_with_gaps()
    stats = RoutingStats.from_trace(trace, by="domain")
    tokens, owner = trace.tokens, trace.tokens["document"].to_numpy()
    fold = [int(key) // 2**60 for key in document_keys(["a", "b", "c", "d"])]
    expected = np.zeros((3, 3, 2, 16, 6, 5), int)  # target, layer, group, fold, token, expert
    for t in np.flatnonzero(~tokens["special"].to_numpy()):
        following = tokens["token_id"].iloc[t + 1] if follows(trace, t, 1) else -1
        for target, token in enumerate((tokens["token_id"].iloc[t], tokens["predicted_id"].iloc[t], following)):
            for layer in range(3):
                for expert in trace.expert_ids[layer, t]:
                    if token >= 0 and expert >= 0:
                        expected[target, layer, owner[t] % 2, fold[owner[t]], token, expert] += 1
    for number, target in enumerate(TARGETS):
        for group in (0, 1, None):
            types = stats.affinity.select(target, group)
            own = expected[number].sum(1) if group is None else expected[number][:, group]
            np.testing.assert_array_equal(types.ids, np.flatnonzero(own.any((0, 1, 3))))
            for layer in range(3):
                np.testing.assert_array_equal(types.by_fold(layer), own[layer][:, types.ids])
            np.testing.assert_array_equal(types.total(), own.sum(1)[:, types.ids])
            assert len(types.fold) == own.any((0, 3)).sum() > 0
    assert stats.affinity.pieces == {}


def test_texts_of_tokens_are_kept_spelled_out():
    trace = random_trace(
        tokens=6, documents=1, token_ids=[3, 3, 1, 2, -1, 2], piece=["b", "b", "\ud800", None, "c", "d"]
    )
    assert RoutingStats.from_trace(trace).affinity.pieces == {1: "\\ud800", 2: "d", 3: "b"}


def test_one_layer_has_no_transition():
    assert RoutingStats.from_trace(random_trace(layers=1)).structure.transitions.shape == (0, 1, 7, 8, 8)


def test_files_keep_small_integers_small(tmp_path):
    RoutingStats.from_trace(random_trace(token_ids=np.arange(200) % 50)).save(tmp_path / "s")
    arrays = load_file(tmp_path / "s")
    assert {arrays[name].dtype for name in ("structure.pairs", "affinity.low", "affinity.high")} == {np.dtype(np.uint8)}


def test_files_of_an_earlier_version_say_what_to_do(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "old", {storage.FORMAT: '{"version": 1}'})
    with pytest.raises(InputError, match="got version 1; make the statistics from the trace"):
        RoutingStats.load(tmp_path / "old")
