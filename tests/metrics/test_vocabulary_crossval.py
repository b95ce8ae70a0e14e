"""Cross-validated vocabulary specialization: hand values, plain loops, ties, known answers."""

from itertools import combinations

import numpy as np
import pytest
from scipy.linalg import hadamard

from mixtral_probe import metrics
from mixtral_probe.metrics.specialization import vocabulary_crossval
from mixtral_probe.metrics.specialization.vocabulary_crossval import SPLITS, vocabulary_specialization_crossval

MEANS = {"min_counts": (1, 6), "weightings": ("type", "token")}


def of_cells(by_fold, **options):
    """The result for counts {fold: [V, E]} of one layer, a row where a type occurs."""
    rows = [(fold, place, row) for fold, counts in by_fold.items() for place, row in enumerate(counts) if sum(row)]
    fold, place, counts = zip(*rows, strict=True)
    return crossval(np.array(counts)[None], fold, place, **options)


def crossval(counts, fold, place, *, chosen=1, **options):
    """The result where every token chose K experts."""
    return vocabulary_specialization_crossval(
        counts, metrics.occurrences(counts, chosen=chosen), fold, place, **options
    )


def scattered(seed, *, types=30, rows=160, experts=5, chosen=1, layers=2):
    """Random counts [L, R, E], folds and types [R] of some cells."""
    rng = np.random.default_rng(seed)
    fold, place = np.divmod(rng.choice(16 * types, rows, replace=False), types)
    sets = [rng.random((layers, n, experts)).argsort(-1)[..., :chosen] for n in rng.geometric(0.3, rows)]
    return np.stack([(part[..., None] == np.arange(experts)).sum((1, 2)) for part in sets], 1), fold, place


def by_loops(counts, fold, place, *, min_count, weighting, chosen):
    """Value and null of one layer, split by split and type by type."""
    value = null = weight = 0.0
    for signs in hadamard(16)[1:]:
        sides = [counts[signs[fold] == sign].sum(0) for sign in (1, -1)]
        for kind in np.unique(place):
            own = [counts[(place == kind) & (signs[fold] == sign)].sum(0) for sign in (1, -1)]
            n = [part.sum() / chosen for part in own]
            if min(n) == 0 or sum(n) < min_count:
                continue
            for here, there in ((0, 1), (1, 0)):
                first = np.flatnonzero(own[here] == own[here].max())
                w = n[there] if weighting == "token" else 1
                value += w * np.mean(own[there][first]) / n[there]
                null += w * np.mean(sides[there][first]) / (sides[there].sum() / chosen)
                weight += w
    return (value / weight, null / weight) if weight else (np.nan, np.nan)


def test_every_two_folds_are_apart_in_8_of_15_splits():
    assert SPLITS.shape == (15, 16)
    assert (SPLITS.sum(1) == 8).all()
    assert {int((SPLITS[:, a] != SPLITS[:, b]).sum()) for a, b in combinations(range(16), 2)} == {8}
    assert {tuple(row) for row in np.where(SPLITS, -1, 1)} == {tuple(row) for row in hadamard(16)[1:]}


def test_two_folds_by_hand():
    found = of_cells({3: [[3, 1], [0, 2], [1, 0]], 9: [[1, 3], [0, 4], [0, 0]]})
    # Leaders of the first fold tried in the second: 1/4 and 4/4; of the second in the first: 1/4 and 2/2.
    assert found.value.item() == pytest.approx((1.25 / 2 + 1.25 / 2) / 2)
    # Loads: second fold 1/8 and 7/8, first 4/7 and 3/7; leaders 0 and 1, then 1 and 1.
    assert found.null.item() == pytest.approx(((1 / 8 + 7 / 8) / 2 + 3 / 7) / 2)
    assert np.isnan(found.deleted[..., [3, 9]]).all()
    assert found.tokens[0, 0, [3, 9]].tolist() == [6, 8]
    assert found.types.item() == 2


def test_experts_that_tie_count_equally():
    found = of_cells({0: [[1, 1, 0]], 1: [[6, 1, 1]]})
    # The first fold's leaders 0 and 1 have 6/8 and 1/8 in the second, whose leader 0 has 1/2 in the first.
    assert found.value.item() == pytest.approx(((6 / 8 + 1 / 8) / 2 + 1 / 2) / 2)
    counts, fold, place = scattered(3)
    turned = crossval(counts[..., ::-1], fold, place, **MEANS)
    for mine, theirs in zip(crossval(counts, fold, place, **MEANS), turned, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize(("chosen", "folds"), [(1, 16), (2, 16), (2, 3)])
def test_loops_over_splits_and_types_agree(monkeypatch, chosen, folds):
    monkeypatch.setattr(vocabulary_crossval, "_BLOCK_ELEMENTS", 200)  # several blocks of types
    counts, fold, place = scattered(chosen, chosen=chosen)
    counts, fold, place = counts[:, fold < folds], fold[fold < folds], place[fold < folds]
    found = crossval(counts, fold, place, chosen=chosen, **MEANS)
    for m, min_count in enumerate(MEANS["min_counts"]):
        for w, weighting in enumerate(MEANS["weightings"]):
            options = {"min_count": min_count, "weighting": weighting, "chosen": chosen}
            for layer in range(2):
                expected = by_loops(counts[layer], fold, place, **options)
                assert (found.value[m, w, layer], found.null[m, w, layer]) == pytest.approx(expected, nan_ok=True)
                for left_out in {0, folds // 2, folds - 1}:
                    rest = fold != left_out
                    value, _ = by_loops(counts[layer][rest], fold[rest], place[rest], **options)
                    assert found.deleted[m, w, layer, left_out] == pytest.approx(value, nan_ok=True)


def test_what_counts_is_counted():
    counts, fold, place = scattered(5)
    found = crossval(counts, fold, place, **MEANS)
    for m, min_count in enumerate(MEANS["min_counts"]):
        kinds = [k for k in range(30) if (place == k).sum() > 1 and counts[0][place == k].sum() >= min_count]
        assert found.types[m].tolist() == [len(kinds)] * 2
        expected = [counts[0][np.isin(place, kinds) & (fold == f)].sum() for f in range(16)]
        np.testing.assert_allclose(found.tokens[m, 0], expected)


def test_routing_by_token_scores_1_whatever_is_left_out():
    found = of_cells({0: np.diag([4, 1, 9]), 6: np.diag([2, 5, 1]), 11: np.diag([1, 1, 1])}, **MEANS)
    assert (found.value == 1).all()
    assert (found.deleted == 1).all()


def test_uniform_routing_scores_its_null():
    rng = np.random.default_rng(0)
    tokens, types = 8000, 400
    sets = rng.random((tokens, 8)).argsort(-1)[:, :2]
    counts = np.zeros((16, types, 8), int)
    cells = np.repeat(rng.integers(0, 16, tokens), 2), np.repeat(rng.integers(0, types, tokens), 2), sets.ravel()
    np.add.at(counts, cells, 1)
    fold, place = np.nonzero(counts.any(-1))
    found = crossval(counts[fold, place][None], fold, place, chosen=2, **MEANS)
    np.testing.assert_allclose(found.null, 0.25, atol=0.005)
    np.testing.assert_allclose(found.value, found.null, atol=0.012)
    low, high = metrics.jackknife_interval(found.value, found.deleted, counts.sum((1, 2)))
    assert ((low < found.null) & (found.null < high)).all()


def test_nothing_on_both_sides_has_no_value():
    none = crossval(np.zeros((2, 0, 8), int), [], [], **MEANS)
    assert np.isnan(none.value).all()
    assert (none.types == 0).all()
    assert np.isnan(of_cells({4: [[1, 2], [3, 4]]}).value).all()
