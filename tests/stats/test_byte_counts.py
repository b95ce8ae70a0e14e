"""Counts of a byte each: what is above 255 comes back, in any order of adding, and nothing that was added changes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtral_probe.stats import byte_counts
from mixtral_probe.stats.affinity import Affinity
from mixtral_probe.stats.byte_counts import ByteCounts, sum_rows


def counts_of(rng, rows):
    """[rows, 2, 3] counts around a byte's end, some far above."""
    return rng.integers(0, 300, (rows, 2, 3)) * rng.choice([0, 1, 10**9], (rows, 2, 3), p=[0.5, 0.45, 0.05])


def arrays(part):
    return [part.low.copy(), part.rows.copy(), part.high.copy()]


@given(st.integers(0, 10**6), st.lists(st.integers(0, 12), min_size=1, max_size=6))
@settings(deadline=None)
def test_any_parts_in_any_order_add_up(seed, sizes):
    rng = np.random.default_rng(seed)
    expected, parts = np.zeros((12, 2, 3), np.int64), []
    for size in sizes:
        place, counts = np.sort(rng.permutation(12)[:size]), counts_of(rng, size)
        expected[place] += counts
        parts.append((place, ByteCounts.of(counts)))
    before = [arrays(part) for _, part in parts]
    found = sum_rows(12, parts)
    again = sum_rows(12, [parts[i] for i in rng.permutation(len(parts))])
    for total in (found, again):
        np.testing.assert_array_equal(total.unpacked(), expected)
        np.testing.assert_array_equal(total.rows, np.flatnonzero((expected > 255).any((1, 2))))
    found.low[...], found.high[...] = 7, 7
    for (_, part), held in zip(parts, before, strict=True):
        for mine, theirs in zip(arrays(part), held, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_bytes_that_overflow_in_every_piece(monkeypatch):
    monkeypatch.setattr(byte_counts, "_PIECE_ROWS", 2)
    one = ByteCounts.of(np.full((5, 1, 2), 200))
    twice = sum_rows(5, [(np.arange(5), one)] * 2)
    np.testing.assert_array_equal(twice.unpacked(), 400)
    assert [one.rows.size, twice.rows.size] == [0, 5]


def test_rows_taken():
    counts = counts_of(np.random.default_rng(0), 20)
    rows = np.array([1, 4, 5, 17])
    np.testing.assert_array_equal(ByteCounts.of(counts).take(rows).unpacked(), counts[rows])
    assert ByteCounts.of(counts).take(rows[:0]).unpacked().shape == (0, 2, 3)


def test_small_counts_take_a_byte():
    part = ByteCounts.of(np.full((1000, 8, 8), 255))
    assert part.nbytes == 1000 * 8 * 8


@given(st.integers(0, 10**6), st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_affinity_merges_in_any_order(seed, number):
    rng = np.random.default_rng(seed)
    parts, expected = [], {}
    for _ in range(number):
        keys = np.sort(rng.choice(30, rng.integers(0, 20), replace=False))
        counts = counts_of(rng, len(keys))
        for key, own in zip(keys, counts, strict=True):
            expected[key] = expected.get(key, 0) + own
        parts.append(Affinity(keys, ByteCounts.of(counts), (3, 2), {}))
    for order in (range(number), rng.permutation(number)):
        total = parts[order[0]]
        for place in order[1:]:
            total = total.merge(parts[place])
        np.testing.assert_array_equal(total.keys, sorted(expected))
        np.testing.assert_array_equal(
            np.moveaxis(total.counts, 1, 0), np.array([expected[key] for key in sorted(expected)]).reshape(-1, 2, 3)
        )
