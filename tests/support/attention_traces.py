"""Traces with attention maps whose content is known."""

import numpy as np
import pandas as pd

from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta, pack_triangle, windows_of
from mixtral_probe.trace.frames import text_column

SINK = (1, 2)
"""The layer and head that put 0.9 on position 0."""


def maps_of(document: int, chunk: int, layer: int, heads: int, length: int) -> np.ndarray:
    """[heads, S, S] random rows that sum to 1; the sink head's by hand."""
    weights = np.tril(np.random.default_rng([document, chunk, layer]).random((heads, length, length)) + 0.05)
    weights /= weights.sum(-1, keepdims=True)
    if layer == SINK[0]:
        weights[SINK[1]] *= 0.1
        weights[SINK[1], :, 0] += 0.9
    return weights


def attentive_trace(
    *, layers: int = 2, heads: int = 3, documents: int = 4, length: int = 12, experts: int = 4,
    window: int | None = None, maps: bool = True, recorded: tuple[int, ...] | None = None,
    pieces: list[str] | None = None,
) -> Trace:  # fmt: skip
    """Documents in two domains, every layer's and head's attention; the first token of each document is special."""
    tokens = documents * length
    within = np.tile(np.arange(length), documents)
    window = window or length
    frame = pd.DataFrame(
        {
            "document": np.repeat(np.arange(documents), length), "chunk": within // window, "position": within % window,
            "token_id": np.arange(tokens), "special": within == 0,
            "piece": text_column(pieces or [f" w{i}" for i in range(tokens)]),
        }
    )  # fmt: skip
    labels = pd.DataFrame(
        {"id": [f"text-{i}" for i in range(documents)], "domain": [("code", "prose")[i % 2] for i in range(documents)]}
    )
    meta = TraceMeta(num_layers=layers, num_experts=experts, num_experts_per_tok=2, num_heads=heads)
    plan = AttentionPlan(dict.fromkeys(range(layers) if recorded is None else recorded, tuple(range(heads))), maps=maps)
    builder = TraceBuilder(labels, frame, meta, attention=plan)
    logits = np.random.default_rng(7).normal(size=(layers, tokens, experts))
    builder.router_logits[...] = logits
    builder.expert_ids[...] = np.argsort(-logits, -1)[..., :2]
    builder.expert_weights[...] = [0.7, 0.3]
    for document, chunk, size in windows_of(builder.tokens):
        for layer in plan.layers:
            record(builder, (document, chunk, layer), maps_of(document, chunk, layer, heads, size), maps)
    builder.mark_done(range(documents))
    return builder.finish()


def record(builder: TraceBuilder, place: tuple[int, int, int], weights: np.ndarray, maps: bool) -> None:
    """Write maps and their sums, query by query."""
    document, _, layer = place
    sums = builder.attention_sums
    sums["tokens"][layer, document] += weights.shape[1]
    for head, single in enumerate(weights):
        for query, row in enumerate(single):
            seen = row[: query + 1]
            sums["entropy_bits"][layer, document, head] -= (seen * np.log2(seen)).sum()
            sums["distance"][layer, document, head] += (seen * (query - np.arange(query + 1))).sum()
            sums["sink"][layer, document, head] += row[0]
    if maps:
        builder.attention_block(*place)[...] = pack_triangle(weights)
