"""A tiny run for the trace tests: three documents, filled from their token ids alone."""

import numpy as np
import pandas as pd

from mixtral_probe.trace import AttentionPlan, TraceBuilder, TraceMeta, pack_triangle, windows_of

DOCUMENTS = pd.DataFrame({"id": ["a", "b", "c"], "domain": ["code", "prose", "code"]})
TOKENS = pd.DataFrame({"document": [0, 0, 0, 1, 1, 2], "chunk": [0, 0, 1, 0, 0, 0], "token_id": [5, 6, 7, 8, 9, 5]})
META = TraceMeta(num_layers=2, num_experts=4, num_experts_per_tok=2, num_heads=3, model={"name": "m"}, created="now")
PLAN = AttentionPlan({1: (2, 0)})


def build(path=None, **options):
    return TraceBuilder(DOCUMENTS, TOKENS, META, path, **({"attention": PLAN} | options))


def run(builder, documents):
    """Fill rows from the token ids alone, so that any two runs agree."""
    for document in documents:
        rows = np.flatnonzero(TOKENS["document"] == document)
        ids = TOKENS["token_id"].to_numpy()[rows]
        logits = np.cos(np.outer(ids, np.arange(4))) + np.arange(2)[:, None, None]  # L, rows, E
        if builder.router_logits is not None:
            builder.router_logits[:, rows] = logits
        builder.expert_ids[:, rows] = np.argsort(-logits, axis=-1)[..., :2]
        builder.expert_weights[:, rows] = 0.5
        builder.nll[rows[1:]] = ids[1:] / 4
        builder.predicted_id[rows] = ids + 1
        fill_attention(builder, document)
        builder.mark_done([document])


def fill_attention(builder, document):
    if builder.attention_sums is None:
        return
    for number, chunk, length in windows_of(builder.tokens):
        if number == document:
            if builder._plan.attention.maps:
                builder.attention_block(document, chunk, 1)[...] = pack_triangle(maps(document, chunk, length))
            builder.attention_sums["tokens"][1, document] += length
            builder.attention_sums["sink"][1, document, [0, 2]] += 0.25 * length


def maps(document, chunk, length):
    return np.tril(np.random.default_rng([document, chunk]).random((2, length, length))).astype(np.float16)


def assert_same(a, b):
    pd.testing.assert_frame_equal(a.tokens, b.tokens)
    pd.testing.assert_frame_equal(a.documents, b.documents)
    assert a.meta == b.meta
    for name in ("expert_ids", "expert_weights", "router_logits"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name, sums in a.attention_sums.items():
        np.testing.assert_array_equal(sums, b.attention_sums[name])
    for document, chunk, _ in windows_of(a.tokens):
        left, right = (trace.attention(document, 1, chunk=chunk) for trace in (a, b))
        np.testing.assert_array_equal(left, right)


def finished(path=None, **options):
    builder = build(path, **options)
    run(builder, builder.pending)
    return builder.finish()
