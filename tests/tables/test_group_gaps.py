"""What pooling the groups hides, with the groups' shares of the tokens fixed: brute force and simulated coverage."""

import numpy as np
import pytest

from mixtral_probe import metrics, tables
from mixtral_probe.stats import RoutingStats
from tests.support.routing import fixed_trace, pick, random_trace

LAWS = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])


def gaps(trace):
    return pick(tables.balance_loss_breakdown(RoutingStats.from_trace(trace, by="domain")), metric="pooling_gap_groups")


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def brute_force(trace, layer, without=None):
    """E Cov_g(f, P) of a layer from the tokens themselves; the shares are those of all tokens, whatever is left out."""
    document, domains = trace.tokens["document"].to_numpy(), trace.documents["domain"].to_numpy(dtype=object)
    p, ids = softmax(trace.router_logits[layer].astype(np.float64)), trace.expert_ids[layer]
    chosen = (ids[..., None] == np.arange(p.shape[-1])).any(1) / ids.shape[-1]
    f, probability, share = [], [], []
    for name in np.unique(domains.astype(str)):
        own = domains[document] == name
        share.append(own.mean())
        left = own & (document != without)
        f.append(chosen[left].mean(0))
        probability.append(p[left].mean(0))
    f, probability, share = np.array(f), np.array(probability), np.array(share)[:, None]
    centred = (f - (share * f).sum(0)) * (probability - (share * probability).sum(0))
    return p.shape[-1] * (share * centred).sum(0)


def test_leaving_out_a_document_keeps_the_groups_shares():
    trace = random_trace(documents=17, tokens=400, layers=2)
    for layer in range(2):
        value = brute_force(trace, layer)
        deleted = np.stack([brute_force(trace, layer, document) for document in range(17)], -1)
        tokens = np.bincount(trace.tokens["document"])
        strata = np.arange(17) % 3  # documents take the domains in turn
        expected = metrics.jackknife(value, deleted, tokens, strata=strata, quantiles="own", curvature=1 / 2)
        rows = pick(gaps(trace), layer=layer)
        np.testing.assert_allclose(rows["value"], value, atol=1e-12)
        for name in ("corrected", "low", "high"):
            np.testing.assert_allclose(rows[name], getattr(expected, name), atol=1e-12, err_msg=name)


def test_documents_alike_within_their_group_leave_no_doubt():
    """Half of the tokens choose expert 0 and half expert 1, surely: E Cov = 4 x 0.25 for both, 0 for the others."""
    group = np.repeat(np.arange(12) % 2, 10)
    logits = np.where(np.arange(4) == group[:, None], 0.0, -1e4)[None]
    documents = [{"id": str(number), "domain": "ab"[number % 2]} for number in range(12)]
    rows = gaps(fixed_trace(group[None, :, None], logits, np.repeat(np.arange(12), 10), documents=documents))
    for name in ("value", "corrected", "low", "high"):
        assert rows[name].tolist() == pytest.approx([1, 1, 0, 0]), name


def coverage(sizes, repeats, length=60):
    """How often intervals hold E sum_g w_g (m_g - m)^2: documents' laws vary about their group's, m_g."""
    rng, hits = np.random.default_rng(sum(sizes)), []
    share = np.array(sizes)[:, None] / sum(sizes)
    truth = 4 * (share * np.square(LAWS - (share * LAWS).sum(0))).sum(0)
    for repeat in range(repeats):
        group = np.repeat([0, 1], sizes)
        laws = np.array([rng.dirichlet(15 * LAWS[kind]) for kind in group]) + 1e-12
        ids = [rng.choice(4, length, p=law / law.sum()) for law in laws]
        trace = fixed_trace(
            np.concatenate(ids)[None, :, None],
            np.repeat(np.log(laws), length, axis=0)[None],
            np.repeat(np.arange(len(group)), length),
            documents=[{"id": f"{repeat}-{i}", "domain": "ab"[kind]} for i, kind in enumerate(group)],
        )
        rows = gaps(trace)
        hits.append((rows["low"] <= truth) & (truth <= rows["high"]))
    return np.mean(hits, 0)  # of each expert


@pytest.mark.parametrize("sizes", [(8, 8), (30, 30)])
def test_intervals_cover_what_they_claim(sizes):
    assert coverage(sizes, 60).min() >= 0.92 - 2 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(5, 5), (8, 8), (30, 30), (30, 5)])
def test_intervals_cover_92_times_of_100(sizes):
    assert coverage(sizes, 1000).min() >= 0.92 - 2 * np.sqrt(0.05 * 0.95 / 1000)
