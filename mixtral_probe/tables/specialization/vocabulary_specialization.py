"""How much of each token type's routing one expert has: `vocabulary_specialization`."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, TARGETS, RoutingStats
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate, estimate_rows
from mixtral_probe.tables.phrases import RARE_TYPES, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.token_types import NO_IDS, TARGET_WORDS

Floats = NDArray[np.float64]
MIN_COUNTS = (1, 10)
"""No minimum, as OLMoE's values by layer, and that of its table 8."""
WEIGHTINGS: tuple[metrics.Weighting, ...] = ("type", "token")
_PLUG_IN, _CROSSVAL = "vocabulary_specialization", "vocabulary_specialization_crossval"


@of_stats
def vocabulary_specialization(stats: RoutingStats) -> pd.DataFrame:
    """Return how far token types go to one expert, plug-in and cross-validated, with chance on the same counts.

    Columns: layer, group, target, min_count, weighting, expert, metric, value, corrected, low, high, null, n, scope.
    Rows without an expert are about all types, the others about those types whose tokens chose that expert most often.
    """
    sums = GroupedSums.of(stats)
    parts = [
        part
        for place, group in enumerate(sums.groups)
        for target in TARGETS
        for part in _of_types(_Types.of(sums, place, target), group)
    ]
    return tidy(parts, SPEC)


class _Types(NamedTuple):
    """The token types of one group and target."""

    sums: GroupedSums
    target: str
    crossval: metrics.CrossValidation
    """Of `MIN_COUNTS` and `WEIGHTINGS`."""
    halved: bool
    """Whether documents are known by half only."""
    n: Floats
    """[L, V] tokens of each type."""
    share: Floats
    """[L, V] of the type's tokens, how many chose the expert that most chose."""
    leader: NDArray[np.intp]
    """[L, V] that expert."""
    null: Floats
    """[L, V] the same share by the loads alone."""
    even: Floats
    """[L, V] and by uniform routing."""

    @classmethod
    def of(cls, sums: GroupedSums, place: int, target: str) -> "_Types":
        group = None if sums.groups[place] == ALL else place
        kinds = sums.stats.affinity.select(target, group)
        counts, chosen, experts = kinds.total(), sums.stats.num_experts_per_tok, sums.stats.num_experts
        n = kinds.total_tokens()
        loads = np.nan_to_num(metrics.selection_frequency(sums.total.counts[:, place], sums.total.tokens[:, place]))
        null = [metrics.expected_largest_share(size, load) for size, load in zip(n, loads, strict=True)]
        even = metrics.expected_largest_share(n, np.full(experts, chosen / experts))
        share = metrics.largest_share(counts, n)
        crossval = metrics.vocabulary_specialization_crossval(
            kinds.counts, kinds.tokens, kinds.fold, kinds.place, min_counts=MIN_COUNTS, weightings=WEIGHTINGS
        )
        return cls(sums, target, crossval, kinds.halved, n, share, counts.argmax(-1), np.array(null), even)

    def why_missing(self, words: str) -> str:
        """Say why a value is missing."""
        return f"not enough data: {words if self.n.shape[1] else NO_IDS[self.target]}"


class _Average(NamedTuple):
    """How types are averaged."""

    min_count: int
    weighting: metrics.Weighting
    weights: Floats
    """[L, V]"""

    @classmethod
    def of(cls, types: _Types, min_count: int, weighting: metrics.Weighting) -> "_Average":
        return cls(min_count, weighting, metrics.type_weights(types.n, min_count=min_count, weighting=weighting))

    def scope(self, types: _Types) -> str:
        """Say which types are averaged, and how."""
        least = "met at all" if self.min_count == 1 else f"met {self.min_count} times or more"
        weight = "every type alike" if self.weighting == "type" else "each by its tokens"
        return f"one layer; {types.sums.tokens_scope}; {TARGET_WORDS[types.target]}; types {least}, {weight}; "


def _of_types(types: _Types, group: str) -> list[pd.DataFrame]:
    layers, parts = np.array(types.sums.stats.layers), []
    for min_count in MIN_COUNTS:
        for weighting in WEIGHTINGS:
            average = _Average.of(types, min_count, weighting)
            keys = {"layer": layers, "group": group, "target": types.target}
            keys |= {"min_count": min_count, "weighting": weighting}
            parts += [rows_of(types, average, keys) for rows_of in (_plug_in, _by_expert, _crossval)]
    return parts


def _plug_in(types: _Types, average: _Average, keys: dict[str, Any]) -> pd.DataFrame:
    weights, scope = average.weights, average.scope(types)
    value, null, even = (metrics.mean_over_types(part, weights) for part in (types.share, types.null, types.even))
    kinds, n = (weights > 0).sum(-1), np.where(weights > 0, types.n, 0).sum(-1).astype(np.int64)
    scopes = [f"{scope}{k:,} types; uniform routing {u:.4g}; {RARE_TYPES}" for k, u in zip(kinds, even, strict=True)]
    missing = scope + types.why_missing("no type was met so often")
    return rows(keys, _PLUG_IN, value, null=null, n=n, scope=np.where(n > 0, np.array(scopes, object), missing))


def _by_expert(types: _Types, average: _Average, keys: dict[str, Any]) -> pd.DataFrame:
    experts = np.arange(types.sums.stats.num_experts)
    parts = [np.where(types.leader == expert, average.weights, 0.0) for expert in experts]
    value, null = (
        np.stack([metrics.mean_over_types(part, weights) for weights in parts], -1)
        for part in (types.share, types.null)
    )
    n = np.stack([np.where(weights > 0, types.n, 0).sum(-1) for weights in parts], -1).astype(np.int64)
    scope = average.scope(types) + "types whose tokens chose `expert` most; "
    scopes = np.where(n > 0, scope + RARE_TYPES, scope + types.why_missing("no such type"))
    keys = keys | {"layer": keys["layer"][:, None], "expert": experts}
    return rows(keys, _PLUG_IN, value, null=null, n=n, scope=scopes)


def _crossval(types: _Types, average: _Average, keys: dict[str, Any]) -> pd.DataFrame:
    found, least = types.crossval, MIN_COUNTS.index(average.min_count)
    mean = (least, WEIGHTINGS.index(average.weighting))
    sizes, splits = found.tokens[least], _HALVES if types.halved else _SPLITS
    estimated = estimate(found.value[mean], found.deleted[mean], sizes, folded=True, bounds=SHARE, about="value")
    scopes = [
        f"{average.scope(types)}{k:,} types in two folds of documents or more; {splits}" for k in found.types[least]
    ]
    why = "no type was met so often and in two folds of the documents" if types.n.shape[1] else NO_IDS[types.target]
    n = sizes.sum(-1).round().astype(np.int64)
    return estimate_rows(keys, _CROSSVAL, estimated, found.null[mean], n, np.array(scopes, object), why)


_SPLITS = "mean over 15 splits of 16 folds, each half tested with the experts of the other"
_HALVES = "the one split into halves that statistics of version 4 have"
_NULL = "routed by load alone"
SPEC = TableSpec(
    function=vocabulary_specialization,
    source="stats",
    description=("How far token types go to one expert; rows with an expert are about the types that chose it most."),
    keys=("layer", "group", "target", "min_count", "weighting", "expert"),
    metrics={
        _PLUG_IN: Metric(
            "mean over token types of the largest share of a type's tokens that chose one expert; "
            "null: as many tokens of each type, routed by the layer's loads alone",
            "plug-in",
            ".1%",
            SHARE,
            _NULL,
        ),
        _CROSSVAL: Metric(
            "the same with each type's expert taken from other documents, half of all, and ties shared; "
            "null: the usual share of those experts",
            "cross-validated",
            ".1%",
            SHARE,
            _NULL,
        ),
    },
    figures=tuple(Drawing("vocabulary_specialization", {"min_count": least}) for least in MIN_COUNTS),
    narrows=True,
)
