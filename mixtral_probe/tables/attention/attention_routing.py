"""How the attention of a token depends on the experts it is sent to: `attention_routing`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, POSITION_BUCKETS, Blocks, counted_rows, position_buckets
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import NO_DIFFERENCE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.trace import Trace, windows_of

Floats = NDArray[np.float64]
_QUANTITIES: dict[str, Callable[[Any], Floats]] = {
    "entropy_bits": metrics.attention_entropy_bits,
    "distance": metrics.attention_distance,
    "sink_share": metrics.attention_sink_share,
}
_SCOPE = "one layer; queries that chose the expert, any rank, less all queries, within buckets of positions"


@of_trace
def attention_routing(trace: Trace) -> pd.DataFrame:
    """Return how the attention of queries that chose an expert differs, in each recorded head of the expert's layer.

    Columns: layer, group ("all"), head, expert, metric, value, corrected, low, high, null, n, scope. Special tokens are
    out as queries. The null 0 is a choice that does not depend on attention beyond the position of the token in the
    text; n counts the queries that chose the expert. Without recorded maps the table is empty and `attrs["note"]`
    says why.
    """
    record = trace.attention_record
    if record is None or not record.plan.maps:
        return empty(SPEC, "no maps of the attention were recorded")
    blocks, parts = Blocks.of(trace.documents["id"]), []
    for index in trace.attention_layers:
        keys = {
            "layer": trace.layers[index],
            "group": ALL,
            "head": np.array(trace.attention_heads(index))[:, None],
            "expert": np.arange(trace.num_experts),
        }
        parts += list(_layer_rows(_sums(trace, index, blocks), keys, blocks.folded))
    return tidy(parts, SPEC)


@dataclass(frozen=True)
class _Sums:
    """Of one layer, by block of documents; with heads h and the Q quantities."""

    chosen: Floats
    """[Bk, P, E] queries that chose the expert."""
    tokens: Floats
    """[Bk, P]"""
    of_expert: Floats
    """[Bk, Q, h, P, E] sums of a quantity over the queries that chose the expert."""
    total: Floats
    """[Bk, Q, h, P] over all queries."""
    square: Floats
    """[Bk, Q, h, P] of squares."""

    def of(self, quantity: int) -> tuple[Floats, ...]:
        """Return the sums of one quantity, as `_difference` and `_effect` take them."""
        return self.chosen, self.tokens, self.of_expert[:, quantity], self.total[:, quantity], self.square[:, quantity]


def _difference(chosen: Floats, tokens: Floats, of_expert: Floats, total: Floats, square: Floats) -> Floats:
    """[..., h, E] of sums [..., P, E], [..., P], [..., h, P, E] and twice [..., h, P]."""
    return metrics.attention_difference(of_expert, chosen[..., None, :, :], total, tokens[..., None, :])


def _effect(chosen: Floats, tokens: Floats, of_expert: Floats, total: Floats, square: Floats) -> Floats:
    """[..., h, E] the difference in standard deviations within buckets."""
    spread = metrics.spread_within(total, square, tokens[..., None, :])
    return metrics.ratio(_difference(chosen, tokens, of_expert, total, square), spread[..., None])


def _sums(trace: Trace, index: int, blocks: Blocks) -> _Sums:
    heads, experts, number = trace.attention_heads(index), trace.num_experts, blocks.number
    shape = (len(_QUANTITIES), len(heads), POSITION_BUCKETS)
    sums = _Sums(
        chosen=np.zeros((number, POSITION_BUCKETS, experts)),
        tokens=np.zeros((number, POSITION_BUCKETS)),
        of_expert=np.zeros((number, *shape, experts)),
        total=np.zeros((number, *shape)),
        square=np.zeros((number, *shape)),
    )
    counted = counted_rows(trace, include_special=False)
    start = 0
    for document, chunk, length in windows_of(trace.tokens):
        rows, at = slice(start, start + length), blocks.of_document[document]
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
            for quantity, formula in enumerate(_QUANTITIES.values()):
                value = within * formula(weights)[kept]  # [P, n]
                sums.of_expert[at, quantity, place] += value @ chose
                sums.total[at, quantity, place] += value.sum(1)
                sums.square[at, quantity, place] += (value * value).sum(1)
    return sums


def _layer_rows(sums: _Sums, keys: dict[str, Any], folded: bool) -> Iterator[pd.DataFrame]:
    chosen = sums.chosen.sum(1).astype(np.int64)[:, None]  # [Bk, 1, E]
    n = np.broadcast_to(chosen.sum(0), (sums.of_expert.shape[2], sums.of_expert.shape[-1]))  # [h, E]
    kinds = {
        "difference": (_difference, _SCOPE),
        "effect": (_effect, f"{_SCOPE}; in standard deviations within those"),
    }
    for kind, (formula, scope) in kinds.items():
        for number, quantity in enumerate(_QUANTITIES):
            estimate = leave_one_out(formula, sums.of(number), chosen, folded=folded, axis=0)
            yield estimate_rows(keys, f"{quantity}_{kind}", estimate, 0.0, n, scope, "no query, or all look alike")


SPEC = TableSpec(
    function=attention_routing,
    source="trace",
    description=(
        "How differently the tokens sent to an expert look, head by head, from others at like positions; null 0."
    ),
    keys=("layer", "group", "head", "expert"),
    metrics={
        name: Metric(meaning, label, ".2g", null=NO_DIFFERENCE)
        for name, meaning, label in (
            ("entropy_bits_difference", "entropy of a query's attention, bits", "difference of entropy, bits"),
            ("distance_difference", "how far back a query looks, tokens", "difference of distance, tokens"),
            ("sink_share_difference", "attention on position 0", "difference of the share on position 0"),
            (
                "entropy_bits_effect",
                "entropy_bits_difference / standard deviation within buckets of positions",
                "entropy, standard deviations",
            ),
            (
                "distance_effect",
                "distance_difference / standard deviation within buckets of positions",
                "distance, standard deviations",
            ),
            (
                "sink_share_effect",
                "sink_share_difference / standard deviation within buckets of positions",
                "share on position 0, standard deviations",
            ),
        )
    },
    figures=(Drawing("attention_routing"),),
    narrows=False,
)
