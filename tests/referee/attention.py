"""What attention heads do, recomputed from the maps of every window."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta, pack_triangle
from tests.referee.counting import choices, windows_of
from tests.referee.record import LAYERS, Record
from tests.referee.rows import Row, row_of

RECORDED = {0: (0, 1), 1: (0,), 2: (1,)}
"""Layers, from 0 in the arrays, and heads whose attention was recorded."""
HEADS = 2
Maps = dict[tuple[int, int, int], np.ndarray]
"""[S, S] by window, layer and head."""


@cache
def maps_of(record: Record) -> Maps:
    """Random maps, as half-precision numbers hold them; their rows sum to 1 within rounding."""
    rng, maps = np.random.default_rng(5), {}
    for number, window in enumerate(windows_of(record)):
        for layer, heads in RECORDED.items():
            for head in heads:
                weights = np.tril(rng.random((len(window), len(window))) ** 3 + 0.01)
                halves = (weights / weights.sum(-1, keepdims=True)).astype(np.float16)
                maps[number, layer, head] = halves.astype(np.float64)
    return maps


def attentive_trace(record: Record, layers: tuple[int, ...] | None = LAYERS) -> Trace:
    """The record with its maps, and their sums by document; without numbers, its layers are all of the model."""
    documents = pd.DataFrame({"id": [f"text-{i}" for i in range(len(record.group))], "domain": record.group})
    columns = ("document", "chunk", "token_id", "special")
    tokens = pd.DataFrame({name: getattr(record, name) for name in columns})
    meta = TraceMeta(
        num_layers=len(LAYERS), num_experts=record.experts, num_experts_per_tok=record.chosen, num_heads=HEADS,
        moe_layers=layers,
    )  # fmt: skip
    builder = TraceBuilder(documents, tokens, meta, attention=AttentionPlan(RECORDED))
    builder.expert_ids[...], builder.expert_weights[...] = record.ids, record.weights
    builder.router_logits[...] = record.logits
    for (number, layer, head), weights in maps_of(record).items():
        window = windows_of(record)[number]
        document, chunk = int(record.document[window[0]]), int(record.chunk[window[0]])
        place = RECORDED[layer].index(head)
        builder.attention_block(document, chunk, layer)[place] = pack_triangle(weights[None])[0]
        if head == RECORDED[layer][0]:
            builder.attention_sums["tokens"][layer, document] += len(window)
        for name, metric in (("entropy_bits", "entropy_bits"), ("distance", "distance"), ("sink", "sink_share")):
            of_queries = [quantity(metric, weights, query) for query in range(len(window))]
            builder.attention_sums[name][layer, document, head] += sum(of_queries)
    builder.mark_done(range(len(record.group)))
    return builder.finish()


QUANTITIES = ("entropy_bits", "distance", "sink_share")


def quantity(metric: str, weights: np.ndarray, query: int) -> float:
    """Entropy in bits, distance in tokens or share on position 0, of what a query looks at."""
    seen = [float(weight) for weight in weights[query, : query + 1]]
    if metric == "entropy_bits":
        return -sum(weight * np.log2(weight) for weight in seen if weight > 0)
    if metric == "distance":
        return sum(weight * (query - key) for key, weight in enumerate(seen))
    return seen[0]


def attention_summary(record: Record) -> Iterator[Row]:
    windows = windows_of(record)
    for layer, heads in RECORDED.items():
        for head in heads:
            for metric in QUANTITIES:
                found, even = [], []
                for number, window in enumerate(windows):
                    flat = np.tril(np.ones((len(window), len(window)))) / np.arange(1, len(window) + 1)[:, None]
                    queries = range(len(window))
                    found += [quantity(metric, maps_of(record)[number, layer, head], query) for query in queries]
                    even += [quantity(metric, flat, query) for query in queries]
                yield Row((LAYERS[layer], "all", head), metric, np.mean(found), np.mean(even), len(found))


def attention_routing(record: Record) -> Iterator[Row]:
    for layer, heads in RECORDED.items():
        for head in heads:
            for metric in QUANTITIES:
                queries = _queries(record, layer, head, metric)
                yield from _routing_rows(record, (LAYERS[layer], "all", head), metric, queries)


def _queries(record: Record, layer: int, head: int, metric: str) -> list[tuple[list[int], int, float]]:
    """Choices, bucket of the position (0, 1, 2-3, 4-7, ...) and value of each query that counts."""
    return [
        (
            choices(record, layer, token),
            query.bit_length(),
            quantity(metric, maps_of(record)[number, layer, head], query),
        )
        for number, window in enumerate(windows_of(record))
        for query, token in enumerate(window)
        if not record.special[token] and choices(record, layer, token)
    ]


def _routing_rows(record: Record, keys: tuple, metric: str, queries: list) -> Iterator[Row]:
    usual = {
        bucket: np.mean([value for _, place, value in queries if place == bucket])
        for bucket in {place for _, place, _ in queries}
    }
    spread = np.sqrt(np.mean([(value - usual[place]) ** 2 for _, place, value in queries]))
    for expert in range(record.experts):
        own = [value - usual[place] for chosen, place, value in queries if expert in chosen]
        difference = np.mean(own) if own else np.nan
        yield row_of((*keys, expert), f"{metric}_difference", difference, 0, len(own))
        yield row_of((*keys, expert), f"{metric}_effect", difference / spread, 0, len(own))


DOCUMENT, CHUNK, QUERY = 2, 1, 9
"""The query whose attention the tables of single tokens are about: a place of its window."""


def _window(record: Record) -> tuple[int, list[int]]:
    """The number of its window, and the tokens up to the query."""
    for number, window in enumerate(windows_of(record)):
        if (record.document[window[0]], record.chunk[window[0]]) == (DOCUMENT, CHUNK):
            return number, window[: QUERY + 1]
    raise AssertionError("the record has this window")


def attended_experts(record: Record) -> Iterator[Row]:
    """In layer 0, over the mean of its heads."""
    number, tokens = _window(record)
    weights = np.mean([maps_of(record)[number, 0, head][QUERY] for head in RECORDED[0]], axis=0)
    first = [choices(record, 0, token)[:1] for token in tokens]
    routed = [key for key, chosen in enumerate(first) if chosen]
    for expert in range(record.experts):
        own = [key for key in routed if first[key] == [expert]]
        keys = (DOCUMENT, CHUNK, LAYERS[0], None, QUERY, expert)
        value = sum(weights[key] for key in own) / sum(weights[key] for key in routed)
        yield Row(keys, "attended_share", value, len(own) / len(routed), len(routed))


def attention_rollout(record: Record) -> Iterator[Row]:
    """Abnar & Zuidema (2020), in a model of these layers alone: the product over them of (A + I) / 2 with normalised
    rows, A the mean over heads."""
    number, tokens = _window(record)
    size = len(tokens)
    flow, even = np.eye(size), np.eye(size)
    flat = np.tril(np.ones((size, size))) / np.arange(1, size + 1)[:, None]
    for layer, heads in RECORDED.items():
        mean = np.mean([maps_of(record)[number, layer, head][:size, :size] for head in heads], axis=0)
        flow, even = _mixed(mean) @ flow, _mixed(flat) @ even
    for key, token in enumerate(tokens):
        experts = " ".join(map(str, choices(record, len(LAYERS) - 1, token)))
        keys = (DOCUMENT, CHUNK, len(LAYERS) - 1, None, QUERY, key, None, experts)
        yield Row(keys, "attention_rollout", flow[QUERY, key], even[QUERY, key], 1)


def _mixed(weights: np.ndarray) -> np.ndarray:
    mixed = (weights + np.eye(len(weights))) / 2
    return mixed / mixed.sum(-1, keepdims=True)
