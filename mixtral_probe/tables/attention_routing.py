"""How what a token looks at goes with where it is sent: `attention_routing`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, POSITION_BUCKETS, Blocks, counted_rows
from mixtral_probe.stats.structure import position_buckets
from mixtral_probe.tables.frame import VALUE_COLUMNS, Estimate, estimate, estimate_rows, tidy, typed_frame
from mixtral_probe.trace import Trace, windows_of

Floats = NDArray[np.float64]
KEYS = ("layer", "group", "head", "expert")
_QUANTITIES: dict[str, Callable[[Any], Floats]] = {
    "entropy_bits": metrics.attention_entropy_bits,
    "distance": metrics.attention_distance,
    "sink_share": metrics.attention_sink_share,
}
ATTENTION_ROUTING = {
    "entropy_bits_difference": "entropy of a query's attention, bits",
    "distance_difference": "how far back a query looks, tokens",
    "sink_share_difference": "attention on position 0",
    "entropy_bits_effect": "entropy_bits_difference / standard deviation within buckets of positions",
    "distance_effect": "distance_difference / standard deviation within buckets of positions",
    "sink_share_effect": "sink_share_difference / standard deviation within buckets of positions",
}
_SCOPE = "one layer; queries that chose the expert, any rank, less all queries, within buckets of positions"


def attention_routing(trace: Trace) -> pd.DataFrame:
    """How differently the queries that chose an expert look, in each recorded head of the expert's own layer.

    Columns: layer, group ("all"), head, expert, metric, value, low, high, null, n, scope. Special tokens are out as
    queries. The null 0 is a choice that has nothing to do with attention beyond where in the text the token stands;
    n counts the queries that chose the expert. Without recorded maps the table is empty and `attrs["note"]` says why.
    """
    record = trace.attention_record
    if record is None or not record.plan.maps:
        empty = typed_frame(pd.DataFrame(columns=[*KEYS, *VALUE_COLUMNS]))
        empty.attrs["note"] = "not enough data: no maps of the attention were recorded"
        return empty
    blocks = Blocks.of(trace.documents["id"])
    parts = []
    for index in trace.attention_layers:
        sums = _sums(trace, index, blocks.of_document, blocks.number)
        keys = {
            "layer": trace.layers[index],
            "group": ALL,
            "head": np.array(trace.attention_heads(index))[:, None],
            "expert": np.arange(trace.num_experts),
        }
        parts += list(_of_layer(sums, keys, blocks.folded))
    return tidy(parts, KEYS)


@dataclass(frozen=True)
class _Sums:
    """Of one layer, by block of documents; with heads h and the Q quantities."""

    chosen: Floats
    """[Bk, P, E] queries that chose the expert."""
    tokens: Floats
    """[Bk, P]"""
    own: Floats
    """[Bk, Q, h, P, E] sums of a quantity over the queries that chose the expert."""
    total: Floats
    """[Bk, Q, h, P] over all queries."""
    square: Floats
    """[Bk, Q, h, P] of squares."""

    def without(self) -> "_Sums":
        """The sums with one block left out, for each block."""
        return _Sums(**{name: array.sum(0) - array for name, array in vars(self).items()})

    def statistics(self) -> tuple[Floats, Floats]:
        """[Bk, Q, h, E] differences and effects of each block, or of what each block stands for."""
        chosen, tokens = self.chosen[:, None, None], self.tokens[:, None, None]
        difference = metrics.attention_difference(self.own, chosen, self.total, tokens)
        spread = metrics.spread_within(self.total, self.square, tokens)
        return difference, metrics.ratio(difference, spread[..., None])


def _sums(trace: Trace, index: int, block: NDArray[np.intp], blocks: int) -> _Sums:
    heads, experts = trace.attention_heads(index), trace.num_experts
    shape = (len(_QUANTITIES), len(heads), POSITION_BUCKETS)
    sums = _Sums(
        chosen=np.zeros((blocks, POSITION_BUCKETS, experts)),
        tokens=np.zeros((blocks, POSITION_BUCKETS)),
        own=np.zeros((blocks, *shape, experts)),
        total=np.zeros((blocks, *shape)),
        square=np.zeros((blocks, *shape)),
    )
    counted = counted_rows(trace, include_special=False)
    start = 0
    for document, chunk, length in windows_of(trace.tokens):
        rows, at = slice(start, start + length), block[document]
        start += length
        ids = np.asarray(trace.expert_ids[index, rows])
        kept = counted[rows] & (ids[:, 0] >= 0)
        bucket = position_buckets(trace.tokens["position"].to_numpy()[rows][kept])
        within = (bucket == np.arange(POSITION_BUCKETS)[:, None]).astype(np.float64)  # [P, n]
        chose = metrics.chosen_mask(ids[kept], experts).any(1).astype(np.float64)  # [n, E]
        sums.chosen[at] += within @ chose
        sums.tokens[at] += within.sum(1)
        for place, head in enumerate(heads):
            weights = trace.attention(document, index, head, chunk)
            for number, formula in enumerate(_QUANTITIES.values()):
                value = within * formula(weights)[kept]  # [P, n]
                sums.own[at, number, place] += value @ chose
                sums.total[at, number, place] += value.sum(1)
                sums.square[at, number, place] += (value * value).sum(1)
    return sums


def _of_layer(sums: _Sums, keys: dict[str, Any], folded: bool) -> Iterator[pd.DataFrame]:
    whole = _Sums(**{name: array.sum(0, keepdims=True) for name, array in vars(sums).items()})
    tokens, n = sums.tokens.sum(1).astype(np.int64), whole.chosen[0].sum(0).astype(np.int64)
    own_blocks = (sums.chosen.sum(1) > 0).sum(0)  # [E]
    for kind, value, deleted in zip(
        ("difference", "effect"), whole.statistics(), sums.without().statistics(), strict=True
    ):
        for number, quantity in enumerate(_QUANTITIES):
            found = estimate(value[0, number], deleted[:, number], tokens, folded, (-np.inf, np.inf))
            found = _certain(found, own_blocks)
            scope = _SCOPE if kind == "difference" else f"{_SCOPE}; in standard deviations within those"
            count = np.where(np.isnan(found.value), 0, n)
            yield estimate_rows(keys, f"{quantity}_{kind}", found, 0.0, count, scope, "no query, or all look alike")


def _certain(found: Estimate, own_blocks: NDArray[np.int64]) -> Estimate:
    """An interval only where at least two blocks of documents chose the expert."""
    enough = (own_blocks >= 2) & np.isfinite(found.low) & np.isfinite(found.high)
    low, high = (np.where(enough, end, np.nan) for end in (found.low, found.high))
    return replace(found, low=low, high=high, blocks=np.where(enough, own_blocks, 1))
