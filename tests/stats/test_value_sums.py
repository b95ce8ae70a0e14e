"""Values of single windows and documents: by hand, over any cut of the trace, with selections and special tokens."""

import numpy as np
import pytest
from scipy.special import softmax

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, chunks
from mixtral_probe.trace import Trace

EXPERTS, CHOSEN = 8, 2


def cut_trace(documents, *, seed=0, layers=2, weights=True, most=40):
    """Documents of 1 to `most` tokens, cut into windows of 7 tokens; every 9th token is special."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, most, documents)
    document = np.repeat(np.arange(documents), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    taste = rng.normal(size=(layers, documents, EXPERTS))[:, document]
    logits = (rng.normal(size=(layers, len(document), EXPERTS)) + taste).astype(np.float32)
    ids = np.argsort(-logits, -1)[..., :CHOSEN]
    gates = softmax(np.take_along_axis(logits, ids, -1), -1).astype(np.float32)
    return Trace.from_arrays(
        expert_ids=ids, router_logits=logits, expert_weights=gates if weights else None, num_experts=EXPERTS,
        document=document, chunk=place // 7, position=place % 7, special=np.arange(len(document)) % 9 == 8,
        documents=[{"id": f"{seed}-{i}", "domain": "abc"[i % 3]} for i in range(documents)],
    )  # fmt: skip


def by_hand(trace, kept):
    """Lists of the values of windows and documents of each layer; kept [L, T] says which tokens count."""
    tokens, found = trace.tokens, []
    for layer in range(trace.num_layers):
        names = ("violation", "loss", "loss_chance", "choice_share", "gate_score", "lengths")
        values = {name: [] for name in names}
        p = softmax(trace.router_logits[layer].astype(float), -1)
        ids, gates = trace.expert_ids[layer], trace.expert_weights[layer].astype(float)
        for keys in (["document", "chunk"], ["document"]):
            for rows in tokens.groupby(keys).indices.values():
                own = rows[kept[layer, rows]]
                if not len(own):
                    continue
                counts = np.bincount(ids[own].ravel(), minlength=EXPERTS)
                if keys == ["document"]:
                    gate = np.bincount(ids[own].ravel(), gates[own].ravel(), minlength=EXPERTS)
                    values["choice_share"].append(counts / counts.sum())
                    values["gate_score"].append(gate / len(own))
                    continue
                values["violation"].append(counts.max() / counts.mean() - 1)
                values["loss"].append(EXPERTS * (counts / counts.sum() * p[own].mean(0)).sum())
                mass = np.take_along_axis(p[own], ids[own].astype(int), -1).sum(-1).mean()
                values["loss_chance"].append(1 + (EXPERTS * mass / CHOSEN - 1) / len(own))
                values["lengths"].append(len(own))
        found.append(values)
    return found


def same_values(a, b):
    mine, theirs = a.value_sums.arrays(), b.value_sums.arrays()
    assert mine.keys() == theirs.keys()
    np.testing.assert_array_equal(a.block_keys, b.block_keys)
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-12, atol=1e-12, err_msg=name)


def check(stats, expected):
    sums = stats.value_sums.map(lambda array: array.sum((1, 2)))
    for layer, values in enumerate(expected):
        assert sums.windows[layer] == len(values["loss"])
        assert sums.documents[layer] == len(values["choice_share"])
        for name in ("violation", "loss", "loss_chance", "choice_share", "gate_score"):
            total = np.sum(values[name], axis=0)
            np.testing.assert_allclose(getattr(sums, name)[layer], total, rtol=1e-6, err_msg=name)
        chance = metrics.expected_max_violation(values["lengths"], EXPERTS, CHOSEN).sum()
        assert sums.violation_chance[layer] == pytest.approx(chance)


@pytest.mark.parametrize("include_special", [False, True])
@pytest.mark.parametrize("documents", [5, 260])
def test_values_of_windows_and_documents_by_hand(documents, include_special):
    trace = cut_trace(documents)
    kept = np.ones((2, len(trace)), bool) if include_special else np.tile(~trace.tokens["special"].to_numpy(), (2, 1))
    stats = RoutingStats.from_trace(trace, by="domain", include_special=include_special)
    assert stats.folded == (documents > 128)
    check(stats, by_hand(trace, kept))


def test_a_selection_counts_its_tokens_in_each_layer_and_windows_without_any_not_at_all():
    trace = cut_trace(40)
    kept = np.stack([trace.tokens["position"] >= 3, trace.tokens["chunk"] == 1])
    kept &= ~trace.tokens["special"].to_numpy()
    where = "layer == 0 and position >= 3 or layer == 1 and chunk == 1"
    check(RoutingStats.from_trace(trace, where=where), by_hand(trace, kept))


def test_windows_and_documents_that_cross_the_borders_of_chunks(monkeypatch):
    trace = cut_trace(90, most=60)
    whole = RoutingStats.from_trace(trace, by="domain")
    for tokens in (1, 5, 32):
        monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", tokens * 2 * CHOSEN * EXPERTS)
        monkeypatch.setattr(chunks, "CHUNK_TOKENS", 64)
        same_values(RoutingStats.from_trace(trace, by="domain"), whole)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_merging_in_any_order_keeps_every_window_and_document(order):
    trace = cut_trace(260)
    owner = np.arange(260) % 4
    parts = [RoutingStats.from_trace(trace.select(np.flatnonzero(owner == k).tolist()), by="domain") for k in order]
    whole = RoutingStats.from_trace(trace, by="domain")
    same_values(parts[0].merge(parts[1]).merge(parts[2].merge(parts[3])), whole)
    same_values(parts[3].merge(parts[2].merge(parts[1].merge(parts[0]))), whole)


def test_without_logits_there_is_no_loss_and_without_weights_no_gate():
    trace = cut_trace(9)
    bare = Trace.from_arrays(expert_ids=trace.expert_ids, num_experts=EXPERTS, document=trace.tokens["document"])
    sums = RoutingStats.from_trace(bare).value_sums
    assert sums.loss is sums.loss_chance is sums.gate_score is None
    assert sums.windows.sum() == 18
