"""What statistics cost and what they hold on request: memory while reading, transitions between any two layers."""

import tracemalloc

import numpy as np
import pytest

from mixtral_probe import tables
from mixtral_probe.errors import InputError
from mixtral_probe.stats import RoutingStats, chunks, structure
from tests.support.routing import pick, random_trace


def small_pieces(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 2**15)
    monkeypatch.setattr(structure, "_PIECE_ELEMENTS", 2**12)
    monkeypatch.setattr(chunks, "CHUNK_TOKENS", 2**10)


def long_trace(tokens):
    words = np.random.default_rng(0).integers(0, 40, tokens)
    return random_trace(
        layers=2, tokens=tokens, documents=70, token_ids=words, predicted_id=np.roll(words, 1), piece=words.astype(str)
    )


def peak(trace):
    tracemalloc.start()
    try:
        RoutingStats.from_trace(trace, by="domain")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_tokens_of_a_trace(monkeypatch):
    small_pieces(monkeypatch)
    short, long = long_trace(20_000), long_trace(80_000)
    assert peak(long) - peak(short) < 8 * 60_000  # a few bytes per token, where a token's logits are 64


def test_statistics_of_more_documents_are_no_larger():
    def held(trace):
        stats = RoutingStats.from_trace(trace, by="domain")
        parts = (stats.sums, stats.value_sums, stats.structure)
        arrays = [*(array for part in parts for array in part.arrays().values()), stats.histogram]
        return sum(array.nbytes for array in [*arrays, stats.affinity.byte_counts, stats.affinity.keys])

    words = {"token_ids": np.tile(np.arange(20), 3000)}
    few, many = (random_trace(tokens=n, documents=n // 10, token_ids=words["token_ids"][:n]) for n in (6000, 24000))
    assert held(many) <= 1.01 * held(few)


def test_pieces_of_any_size_give_the_same_counts(monkeypatch):
    trace = long_trace(5000)
    whole = RoutingStats.from_trace(trace, by="domain")
    small_pieces(monkeypatch)
    cut = RoutingStats.from_trace(trace, by="domain")
    for name, array in whole.structure.arrays().items():
        np.testing.assert_array_equal(array, cut.structure.arrays()[name], err_msg=name)
    np.testing.assert_array_equal(whole.affinity.keys, cut.affinity.keys)
    np.testing.assert_array_equal(whole.affinity.counts, cut.affinity.counts)
    assert whole.affinity.pieces == cut.affinity.pieces == {word: str(word) for word in range(40)}


def test_transitions_between_any_two_layers(tmp_path):
    trace = random_trace(layers=4, moe_layers=(2, 5, 7, 9))
    stats = RoutingStats.from_trace(trace, by="domain", layer_pairs=[(2, 9), (9, 5), (2, 5)])
    assert stats.layer_pairs == ((2, 5), (5, 7), (7, 9), (2, 9), (9, 5))
    first = trace.expert_ids[..., 0].astype(int)
    for (here, there), counts in zip(stats.layer_pairs, stats.structure.transitions.sum((1, 2)), strict=True):
        expected = np.zeros((8, 8), int)
        np.add.at(expected, (first[stats.layers.index(here)], first[stats.layers.index(there)]), 1)
        np.testing.assert_array_equal(counts, expected)
    stats.save(tmp_path / "s")
    again = RoutingStats.load(tmp_path / "s")
    assert again.layer_pairs == stats.layer_pairs
    assert again.update(trace).total().tokens.sum() == 2 * 4 * 200
    joint = pick(tables.transitions(again), layer=2, other_layer=9, group="all", metric="joint_share")
    np.testing.assert_allclose(
        joint["value"].to_numpy().reshape(8, 8) * 200, stats.structure.transitions[3].sum((0, 1))
    )


def test_pairs_of_layers_that_are_not_there():
    with pytest.raises(InputError, match="layers with experts \\(0–2\\), got layer 7"):
        RoutingStats.from_trace(random_trace(), layer_pairs=[(0, 7)])
    plain = RoutingStats.from_trace(random_trace())
    with pytest.raises(InputError, match="the same pairs of layers"):
        plain.merge(RoutingStats.from_trace(random_trace(), layer_pairs=[(0, 2)]))
