"""The tokens an expert is chosen for beyond what its load explains: `expert_tokens`."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, RoutingStats
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.phrases import NO_PREFERENCE, POSITIVE, SHARE, STRONGEST
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.tables.specialization.token_types import NO_IDS

Floats = NDArray[np.float64]
MIN_COUNT, TOP = 10, 10
PRIOR = 1000.0
"""Tokens that the prior of the log odds is worth."""


def expert_tokens(stats: RoutingStats, *, top: int = TOP, min_count: int = MIN_COUNT) -> pd.DataFrame:
    """Return the tokens each expert is chosen for most beyond its load, strongest lift first.

    Columns: layer, group, expert, place, token_id, token, metric, value, corrected, low, high, null, n, scope. n counts
    the type's tokens. False discoveries are controlled over all types and experts of a layer and group together.

    Args:
        stats: the statistics.
        top: how many tokens of each expert, at most; only those with a lift above 1.
        min_count: least number of tokens of a type.
    """
    sums, parts = GroupedSums.of(stats), []
    for place, group in enumerate(sums.groups):
        kinds = stats.affinity.select("input", None if group == ALL else place)
        ids, counts = kinds.ids, kinds.total()
        none = f"no token type was met {min_count} times" if len(ids) else NO_IDS["input"]
        for row, layer in enumerate(stats.layers):
            load, tokens = sums.total.counts[row, place], sums.total.tokens[row, place]
            types = _Types.of(stats, ids, counts[row], load, tokens, min_count)
            scope = f"one layer; {sums.tokens_scope}; token types met {min_count} times or more; {len(types.ids):,} "
            parts.append(
                _layer_rows(stats, types, top, {"layer": layer, "group": group}, f"{scope}of them tried; ", none)
            )
    return tidy(parts, SPEC)


class _Types(NamedTuple):
    """The types of one group that were met often enough, in one layer."""

    ids: NDArray[np.int64]
    """[V]"""
    n: Floats
    """[V] tokens of each."""
    values: dict[str, Floats]
    """By metric, [V, E]."""
    nulls: dict[str, Floats]
    """By metric, [E]."""

    @classmethod
    def of(
        cls,
        stats: RoutingStats,
        ids: NDArray[np.int64],
        counts: NDArray[np.int64],
        load: NDArray[np.int64],
        tokens: np.int64,
        min_count: int,
    ) -> "_Types":
        """Return the types of counts [V, E] with `min_count` tokens, of a layer with these loads [E] and tokens."""
        n = metrics.occurrences(counts, chosen=stats.num_experts_per_tok)
        often = n >= min_count
        ids, counts, n = ids[often], counts[often], n[often]
        p = metrics.lift_p_values(counts, np.ceil(n).astype(np.int64), load, tokens)
        values = {
            "token_lift": metrics.token_lift(counts, n, load, tokens),
            "token_npmi": metrics.token_npmi(counts, n, load),
            "token_log_odds": metrics.token_log_odds(counts, n, load, tokens, prior=PRIOR),
            "token_frequency": metrics.ratio(counts, n[:, None]),
            "token_false_discovery": metrics.false_discovery_rates(p),
        }
        fixed = {"token_lift": 1.0, "token_npmi": 0.0, "token_log_odds": 0.0, "token_false_discovery": 1.0}
        nulls = {name: np.full(len(load), value) for name, value in fixed.items()}
        return cls(ids, n, values, nulls | {"token_frequency": metrics.selection_frequency(load, tokens)})

    def strongest(self, expert: int, top: int) -> NDArray[np.intp]:
        """[up to top] the types with the highest lift above 1, the most frequent of equals first."""
        lift = self.values["token_lift"][:, expert]
        order = np.lexsort((self.ids, -self.n, -np.nan_to_num(lift)))
        return order[lift[order] > 1][:top]


def _layer_rows(
    stats: RoutingStats, types: _Types, top: int, keys: dict[str, Any], scope: str, none: str
) -> pd.DataFrame:
    best = [types.strongest(expert, top) for expert in range(stats.num_experts)]
    # An expert without tokens has one row that says so.
    sizes = np.array([max(len(places), 1) for places in best])
    expert = np.repeat(np.arange(len(best)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    present = np.array([len(places) > 0 for places in best])[expert]
    at, chooser = np.concatenate(best), expert[present]
    token = np.array([stats.affinity.pieces.get(int(token)) for token in types.ids[at]], object)
    columns = keys | {
        "expert": expert,
        "place": _where(present, place[present], pd.NA),
        "token_id": _where(present, types.ids[at], pd.NA),
        "token": _where(present, token, None),
    }
    value = np.stack([types.values[name][at, chooser] for name in SPEC.metrics])
    why = "the expert was chosen for none more often than its load explains" if len(types.ids) else none
    return rows(
        columns,
        np.array(list(SPEC.metrics), object)[:, None],
        _where(present, value, np.nan),
        null=np.stack([types.nulls[name][expert] for name in SPEC.metrics]),
        n=_where(present, types.n[at].astype(np.int64), 0),
        scope=np.where(present, scope + STRONGEST, f"{scope}not enough data: {why}"),
    )


def _where(present: NDArray[np.bool_], values: NDArray[Any], missing: object) -> NDArray[Any]:
    """[..., R] the values [..., present rows] at the rows that are present [R], `missing` at the others."""
    kind = values.dtype if isinstance(missing, int | float) else np.dtype(object)
    spread = np.full((*values.shape[:-1], len(present)), missing, kind)
    spread[..., present] = values
    return spread


SPEC = TableSpec(
    function=expert_tokens,
    source="stats",
    description=(
        "The tokens each expert is chosen for most beyond its load, strongest first; n counts the type's tokens."
    ),
    keys=("layer", "group", "expert", "place", "token_id", "token"),
    metrics={
        "token_lift": Metric(
            "share of the type's tokens that chose the expert / share of all tokens that did; null 1",
            "lift",
            bounds=POSITIVE,
            null=NO_PREFERENCE,
        ),
        "token_npmi": Metric(
            "normalised pointwise mutual information of type and expert, in [-1, 1]; null 0",
            "nPMI",
            ".2g",
            (-1.0, 1.0),
            NO_PREFERENCE,
        ),
        "token_log_odds": Metric(
            "z-score of the type's log odds among the expert's tokens against all others, with a prior of 1,000 "
            "tokens; null 0",
            "log odds, z",
            null=NO_PREFERENCE,
        ),
        "token_frequency": Metric(
            "share of the type's tokens that chose the expert; null: that of all tokens",
            "share of the type's tokens",
            ".1%",
            SHARE,
            "share of all tokens",
        ),
        "token_false_discovery": Metric(
            "Benjamini-Hochberg: share of false finds if this and all stronger ones are believed",
            "false discovery rate",
            ".2g",
            SHARE,
            NO_PREFERENCE,
        ),
    },
    figures=(),
    narrows=True,
)
