"""Means over windows and over documents: each counts alike, however many there are and however long they are."""

import numpy as np
import pytest
from scipy import stats as distributions
from scipy.special import softmax

from mixtral_probe import tables
from mixtral_probe.stats import RoutingStats
from mixtral_probe.trace import Trace
from tests.support.routing import pick, random_trace
from tests.support.statistics import save_as_version_4

SEQUENCE, BATCH = "load_balancing_loss_sequence", "max_violation_batch"
OF_DOCUMENTS = ("token_selection_ratio", "average_gate_score")


def long_and_short(documents, seed=0):
    """Documents of 1 to 30 tokens, each with experts it prefers, in windows of 8 tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 31, documents)
    document = np.repeat(np.arange(documents), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    taste = 3 * rng.normal(size=(documents, 8))
    logits = (rng.normal(size=(len(document), 8)) + taste[document]).astype(np.float32)
    return Trace.from_arrays(
        expert_ids=np.argsort(-logits, -1)[None, :, :2], router_logits=logits[None], num_experts=8,
        document=document, chunk=place // 8, position=place % 8,
        documents=[{"id": f"{seed}-{i}", "domain": "abc"[i % 3]} for i in range(documents)],
    )  # fmt: skip


def by_hand(trace):
    """Lists of losses and MaxVios of windows, and of shares of choices and weights of documents."""
    found = {SEQUENCE: [], BATCH: [], "token_selection_ratio": [], "average_gate_score": []}
    logits = trace.router_logits[0].astype(float)
    p, ids = softmax(logits, -1), trace.expert_ids[0].astype(int)
    chosen = (ids[..., None] == np.arange(8)).any(1)
    gate = np.where(chosen, p, 0) / np.where(chosen, p, 0).sum(-1, keepdims=True)
    for rows in trace.tokens.groupby(["document", "chunk"]).indices.values():
        f = chosen[rows].mean(0) / 2
        found[SEQUENCE].append(8 * (f * p[rows].mean(0)).sum())
        found[BATCH].append(8 * f.max() - 1)
    for rows in trace.tokens.groupby("document").indices.values():
        found["token_selection_ratio"].append(chosen[rows].mean(0) / 2)
        found["average_gate_score"].append(gate[rows].mean(0))
    return {name: np.array(values) for name, values in found.items()}


def values(stats):
    variants, relevance = tables.balance_variants(stats), tables.expert_relevance(stats)
    found = {name: pick(variants, metric=name, group="all")["value"].to_numpy() for name in (SEQUENCE, BATCH)}
    return found | {name: pick(relevance, metric=name, group="all")["value"].to_numpy() for name in OF_DOCUMENTS}


@pytest.mark.parametrize("documents", [3, 100, 260, 520])
@pytest.mark.parametrize("by", [None, "domain"])
def test_every_window_and_document_counts_alike(documents, by):
    trace = long_and_short(documents)
    found = values(RoutingStats.from_trace(trace, by=by))
    for name, each in by_hand(trace).items():
        np.testing.assert_allclose(found[name], np.atleast_1d(each.mean(0)), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_merged_parts_of_many_documents_have_the_same_means(order):
    parts = [long_and_short(90, seed) for seed in range(3)]
    each = [by_hand(trace) for trace in parts]
    first, second, third = (RoutingStats.from_trace(parts[place], by="domain") for place in order)
    for merged in (first.merge(second).merge(third), first.merge(second.merge(third))):
        assert merged.folded
        for name, value in values(merged).items():
            expected = np.concatenate([part[name] for part in each]).mean(0)
            np.testing.assert_allclose(value, np.atleast_1d(expected), rtol=1e-6, err_msg=name)


def test_documents_of_one_window_have_the_interval_of_t():
    trace = long_and_short(40).select([d for d in range(40) if (long_and_short(40).tokens["document"] == d).sum() <= 8])
    each = by_hand(trace)[SEQUENCE]
    assert len(each) == len(trace.documents) >= 8
    [row] = pick(tables.balance_variants(RoutingStats.from_trace(trace)), metric=SEQUENCE).to_dict("records")
    low, high = distributions.t.interval(0.95, len(each) - 1, each.mean(), distributions.sem(each))
    assert (row["low"], row["high"]) == pytest.approx((max(low, 0), min(high, 4)))
    assert "mean over windows, each alike" in row["scope"]


def test_a_layer_without_tokens_has_no_mean():
    trace = random_trace(documents=6)
    table = tables.balance_variants(RoutingStats.from_trace(trace, where="layer == 1"))
    empty = pick(table, layer=0, metric=SEQUENCE)
    assert empty["value"].isna().all()
    assert empty["scope"].str.contains("not enough data: no tokens").all()


@pytest.mark.parametrize("documents", [7, 100])
def test_statistics_of_version_4_say_what_they_lack(tmp_path, documents):
    stats = RoutingStats.from_trace(random_trace(documents=documents), by="domain")
    save_as_version_4(stats, tmp_path / "old")
    old = RoutingStats.load(tmp_path / "old")
    variants, relevance = tables.balance_variants(old), tables.expert_relevance(old)
    for name in (SEQUENCE, BATCH):
        rows = pick(variants, metric=name)
        assert rows["value"].isna().all()
        assert rows["scope"].str.contains("not enough data: statistics of an earlier version lack values").all()
    assert pick(variants, metric="inverse_simpson")["value"].notna().all()
    if documents > 64:
        assert relevance["value"].isna().all()
    else:  # every block is a document
        new = tables.expert_relevance(stats)
        for column in ("value", "corrected", "low", "high", "null"):
            np.testing.assert_allclose(relevance[column], new[column], rtol=1e-12)
    merged = tables.balance_variants(old.merge(RoutingStats.from_trace(random_trace(5), by="domain")))
    assert pick(merged, metric=SEQUENCE)["value"].isna().all()
