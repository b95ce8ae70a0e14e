"""Repeats with the tokens of each document in random order: by hand, over any cut, and from files without them."""

from itertools import permutations

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats, chunks, structure
from mixtral_probe.trace import Trace
from tests.support.routing import pick
from tests.support.statistics import save_as_version_4

METRICS = ("repetition_first", "overlap", "repetition_any")


def uneven_trace(documents, chosen, *, experts=6, seed=0):
    """Documents of 1 to 30 tokens with tastes of their own, in windows of 9; some special, some of fewer experts."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), rng.integers(1, 31, documents))
    place = np.arange(len(document)) - np.searchsorted(document, document)
    taste = 2 * rng.normal(size=(2, documents, experts))[:, document]
    ids = (taste + rng.gumbel(size=taste.shape)).argsort(-1)[..., :chosen]
    ids[..., 1:][rng.random((2, len(document))) < 0.2] = -1
    return Trace.from_arrays(
        expert_ids=ids, num_experts=experts, document=document, chunk=place // 9, position=place % 9,
        special=place % 11 == 10, documents=[{"id": f"{seed}-{i}", "domain": "abc"[i % 3]} for i in range(documents)],
    )  # fmt: skip


def alike(a, b, chosen):
    """The three metrics of two tokens."""
    common = ({*a} & {*b}) - {-1}
    return np.array([a[0] == b[0], len(common) / chosen, bool(common)], float)


def by_hand(trace, layer, lag):
    """[metric] expected repeats, and the number of pairs of tokens that far apart."""
    tokens, chosen = trace.tokens, trace.num_experts_per_tok
    total, number = np.zeros(3), 0
    for rows in tokens.groupby("document").indices.values():
        own = [row for row in rows if not tokens["special"].iloc[row]]
        ids = trace.expert_ids[layer, own].tolist()
        rates = [alike(a, b, chosen) for i, a in enumerate(ids) for j, b in enumerate(ids) if i != j]
        windows = tokens["chunk"].to_numpy()
        apart = sum(
            windows[row] == windows[row + lag] and not tokens["special"].iloc[row : row + lag + 1].any()
            for row in rows[:-lag]
        )
        total, number = total + (apart * np.mean(rates, 0) if apart else 0), number + apart
    return total, number


@pytest.mark.parametrize("documents", [6, 260])
@pytest.mark.parametrize("chosen", [1, 2, 3])
def test_each_document_is_shuffled_however_many_there_are(documents, chosen):
    trace = uneven_trace(documents, chosen)
    stats = RoutingStats.from_trace(trace, by="domain")
    assert stats.folded == (documents > 128)
    table = pick(tables.repetition(stats), group="all")
    for layer, lag in ((0, 1), (1, 3), (1, 8)):
        expected, number = by_hand(trace, layer, lag)
        np.testing.assert_allclose(stats.value_sums.shuffled_repeats.sum((1, 2))[layer, :, lag - 1], expected)
        for place, name in enumerate(METRICS):
            row = pick(table, layer=layer, lag=lag, metric=f"{name}_shuffled").iloc[0]
            assert row["value"] == pytest.approx(expected[place] / number)
            assert row["n"] == number
            assert "tokens of each document shuffled, on average" in row["scope"]


def test_it_is_the_mean_over_all_orders_of_the_text():
    ids = np.array([[0, 1], [0, 2], [1, 0], [3, 2], [0, -1]])
    stats = RoutingStats.from_trace(Trace.from_arrays(expert_ids=ids[None], num_experts=4))
    every = [[ids[place].tolist() for place in order] for order in permutations(range(5))]
    for lag in (1, 2, 4):
        repeats = [sum(alike(a, b, 2) for a, b in zip(own, own[lag:], strict=False)) for own in every]
        np.testing.assert_allclose(stats.value_sums.shuffled_repeats[0, 0, 0, :, lag - 1], np.mean(repeats, 0))


@pytest.mark.parametrize("chosen", [2, 3])
def test_documents_that_cross_the_borders_of_pieces_and_parts_that_are_merged(chosen, monkeypatch):
    trace = uneven_trace(200, chosen)
    whole = RoutingStats.from_trace(trace, by="domain").value_sums.shuffled_repeats
    parts = [RoutingStats.from_trace(trace.select(np.arange(200)[k::3].tolist()), by="domain") for k in range(3)]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    np.testing.assert_allclose(merged.value_sums.shuffled_repeats, whole, rtol=1e-12, atol=1e-12)
    for elements in (1, 50, 2000):
        monkeypatch.setattr(structure, "_PIECE_ELEMENTS", elements)
        monkeypatch.setattr(chunks, "CHUNK_TOKENS", 64)
        found = RoutingStats.from_trace(trace, by="domain").value_sums.shuffled_repeats
        np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-12)


def save_without(stats, path):
    """Write a file of this version as it was before the sums were kept."""
    stats.save(path)
    with safe_open(path, framework="numpy") as file:
        arrays, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    del arrays["values.shuffled_repeats"], header["content"]  # nor did it have a hash of its content
    save_file(arrays, path, header)


@pytest.mark.parametrize("save", [save_without, save_as_version_4])
def test_files_without_them_have_them_where_a_block_is_a_document_and_say_so_elsewhere(save, tmp_path):
    few, many = (RoutingStats.from_trace(uneven_trace(number, 2, seed=number), by="domain") for number in (40, 300))
    for stats in (few, many):
        save(stats, tmp_path / f"{stats.folded}")
    old, folded = (RoutingStats.load(tmp_path / name) for name in ("False", "True"))
    np.testing.assert_allclose(old.value_sums.shuffled_repeats, few.value_sums.shuffled_repeats, rtol=1e-12)
    for stats in (folded, folded.merge(few)):
        table = tables.repetition(stats)
        for name in METRICS:
            rows = pick(table, metric=f"{name}_shuffled")
            assert len(rows) == len(pick(table, metric=name))
            assert rows["value"].isna().all()
            assert rows["scope"].str.contains("not enough data: statistics of an earlier version lack values").all()
        assert pick(table, metric="overlap", lag=1)["value"].notna().all()
