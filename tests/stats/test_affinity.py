"""Folds of documents: the same under any merge, and what is left of them beside a file that knows halves only."""

import numpy as np
import pytest

from mixtral_probe.stats import FOLDS, RoutingStats, TypeCounts, document_keys
from mixtral_probe.stats.affinity import Affinity
from mixtral_probe.stats.byte_counts import ByteCounts
from mixtral_probe.trace import Trace
from tests.support.routing import random_trace

KEY_OF_VERSION_4 = (2 << 24 | 5) << 33
"""Of target "next" and group 5."""


def test_a_fold_is_the_first_four_bits_of_the_hash():
    trace = random_trace(documents=60, tokens=400, token_ids=np.arange(400) % 3)
    types = RoutingStats.from_trace(trace).affinity.select("input")
    folds = np.array([f"{int(key):064b}"[:4] for key in document_keys(trace.documents["id"])])
    tokens = np.bincount([int(folds[d], 2) for d in trace.tokens["document"]], minlength=FOLDS)
    np.testing.assert_array_equal(types.by_fold(0).sum((1, 2)), 2 * tokens)


def test_rows_are_kept_only_where_a_type_occurs():
    counts = ByteCounts.of(np.array([[[1, 0]], [[300, 7]], [[2, 2]]]))
    types = TypeCounts(np.array([4, 9]), np.array([0, 3, 3]), np.array([1, 0, 1]), counts, (2, 1))
    np.testing.assert_array_equal(types.total(), [[[300, 7], [3, 2]]])
    np.testing.assert_array_equal(types.of_layer(0), [[1, 0], [300, 7], [2, 2]])
    dense = types.by_fold(0)
    assert dense.shape == (16, 2, 2)
    np.testing.assert_array_equal(dense[3], [[300, 7], [2, 2]])
    assert dense.sum() == types.total().sum()
    np.testing.assert_array_equal(types.tokens, [[1, 307, 4]])
    np.testing.assert_array_equal(types.total_tokens(), [[307, 5]])


def test_tokens_that_chose_fewer_experts_than_k_are_counted():
    """Three tokens of one type and one of another with 2, 1, 0 and 2 of 3 experts; then as many with 2 each."""
    few = [[[0, 1], [2, -1], [-1, -1], [0, 2]]]
    full = [[[0, 1], [0, 1], [1, 2], [0, 2]]]
    parts = [
        RoutingStats.from_trace(
            Trace.from_arrays(
                expert_ids=ids, num_experts=3, token_ids=[5, 5, 5, 6], documents=[{"id": name}], document=[0] * 4
            )
        )
        for name, ids in (("a", few), ("b", full))
    ]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        types = merged.affinity.select("input")
        np.testing.assert_array_equal(types.total(), [[[3, 4, 2], [2, 0, 2]]])
        np.testing.assert_array_equal(types.total_tokens(), [[5, 2]])
        assert merged.affinity.counts.shape[-1] == types.by_fold(0).shape[-1] == 3
    assert parts[1].affinity.byte_counts.low.shape[-1] == 3


@pytest.fixture
def of_version_4():
    """Token 7 in half 0 and tokens 7 and 8 in half 1, two of them more than 255 times."""
    keys = KEY_OF_VERSION_4 + np.array([7, (1 << 32) + 7, (1 << 32) + 8])
    counts = np.array([[[1, 2], [300, 4], [5, 256]]], np.uint16)  # [L, R, E]
    names = {"pieces": {"7": "x"}, "num_experts": 2, "num_experts_per_tok": 1}
    return Affinity.restored(names, {"affinity.keys": keys, "affinity.counts": counts})


def test_halves_of_a_file_of_version_4_are_folds_0_and_8(of_version_4):
    types = of_version_4.select("next", 5)
    assert types.halved
    assert types.ids.tolist() == [7, 8]
    assert (types.fold.tolist(), types.place.tolist()) == ([0, 8, 8], [0, 0, 1])
    assert types.of_layer(0).tolist() == [[1, 2], [300, 4], [5, 256]]
    assert of_version_4.pieces == {7: "x"}
    assert not len(of_version_4.select("next", 4).ids)


def test_folds_are_joined_to_halves_beside_a_file_of_version_4():
    parts = [RoutingStats.from_trace(random_trace(seed, token_ids=np.arange(200) % 7)).affinity for seed in range(3)]
    old = parts[1].in_halves()
    whole = parts[0].merge(parts[1]).merge(parts[2])
    for merged in (
        parts[0].merge(old).merge(parts[2]),
        old.merge(parts[2].merge(parts[0])),
        parts[2].merge(parts[0]).merge(old),
    ):
        assert merged.halved
        assert {*merged.select("input").fold.tolist()} == {0, 8}
        for layer in range(3):
            halves = whole.select("input").by_fold(layer).reshape(2, 8, 7, 8).sum(1)
            np.testing.assert_array_equal(merged.select("input").by_fold(layer)[::8], halves)


def test_what_is_stored_is_restored(of_version_4):
    new = RoutingStats.from_trace(random_trace(token_ids=np.arange(200) % 2), by="domain").affinity
    for affinity in (new, of_version_4):
        names, arrays = affinity.stored()
        names |= dict(zip(("num_experts", "num_experts_per_tok"), affinity.shape, strict=True))
        again = Affinity.restored(names, arrays)
        np.testing.assert_array_equal(again.keys, affinity.keys)
        np.testing.assert_array_equal(again.counts, affinity.counts)
        assert (again.pieces, again.halved) == (affinity.pieces, affinity.halved)
