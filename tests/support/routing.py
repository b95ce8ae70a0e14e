"""Small traces with known routing, for the tests of metrics, statistics and tables."""

import numpy as np

from mixtral_probe.trace import Trace

DOMAINS = ("code", "law", "math")


def random_trace(seed=0, *, layers=3, tokens=200, experts=8, chosen=2, documents=7, logits=True, weights=False, **more):
    """A trace of random logits with a preference per document; every document has at least one token."""
    rng = np.random.default_rng(seed)
    owner = np.sort(np.concatenate([np.arange(documents), rng.integers(0, documents, max(tokens - documents, 0))]))
    z = rng.normal(size=(layers, len(owner), experts)) + rng.normal(size=(layers, documents, experts))[:, owner]
    z = z.astype(np.float32)
    ids = np.argsort(-z, axis=-1)[..., :chosen].astype(np.int16)
    g = np.exp(np.take_along_axis(z, ids.astype(int), -1))
    return Trace.from_arrays(
        expert_ids=ids,
        router_logits=z if logits else None,
        expert_weights=(g / g.sum(-1, keepdims=True)).astype(np.float32) if weights else None,
        document=owner,
        num_experts=experts,
        documents=[{"id": f"{seed}-{i}", "domain": DOMAINS[i % 3]} for i in range(documents)],
        **more,
    )


def fixed_trace(ids, logits, document=None, **more):
    """A trace of exactly these expert ids [L, T, K] and logits [L, T, E]."""
    ids, logits = np.asarray(ids), np.asarray(logits, np.float32)
    return Trace.from_arrays(expert_ids=ids, router_logits=logits, document=document, **more)


def collapsed(pairs, tokens, experts=8):
    """Ids [len(pairs), T, 2] and logits [len(pairs), T, E]: every token of a layer goes to its pair, half and half."""
    ids = np.repeat(np.array(pairs)[:, None, :], tokens, axis=1)
    logits = np.full((len(pairs), tokens, experts), -1e4, np.float32)
    np.put_along_axis(logits, ids, 0.0, axis=-1)
    return ids, logits


def pick(table, **keys):
    """The rows of a table with these values; None means empty."""
    for name, value in keys.items():
        table = table[table[name].isna() if value is None else table[name] == value]
    return table


def estimate(rows):
    """The number that an interval is about, of a row or of each row: `corrected` where there is one, else `value`."""
    corrected = rows["corrected"]
    if np.ndim(corrected):
        return np.where(corrected.isna(), rows["value"], corrected)
    return rows["value"] if np.isnan(corrected) else corrected
