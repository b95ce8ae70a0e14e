"""The tokens an expert is chosen for beyond what its load explains: `expert_tokens`."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, RoutingStats, TypeCounts
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.phrases import NO_PREFERENCE, POSITIVE, SHARE, STRONGEST
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.tables.specialization.token_types import NO_IDS

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
MIN_COUNT, TOP = 10, 10
FALSE_DISCOVERY = "token_false_discovery"
PRIOR = 1000.0
"""Tokens that the prior of the log odds is worth."""
_FAMILY = "Benjamini-Hochberg over all types tried, experts, layers and groups; no interval: a test"


@of_stats
def expert_tokens(stats: RoutingStats, *, top: int = TOP, min_count: int = MIN_COUNT) -> pd.DataFrame:
    """Return the tokens each expert is chosen for most beyond its load, strongest lift first.

    Columns: layer, group, expert, place, token_id, token, metric, value, corrected, low, high, null, n, scope. n counts
    the type's tokens.

    Documents have experts of their own, whatever their words. So the false discoveries are those of a preference that
    is consistent over up to 16 folds of documents (`metrics.consistent_lift_p_values`): in each fold the tokens of a
    type are compared with the load of the expert there. In a fold of several documents the words of a topic share its
    experts, and count as preferring them; the rows of one topic compare among its own documents. The family is that of
    all types tried, experts, layers and groups of the table. A type in fewer than 5 folds has no rate.

    Args:
        stats: the statistics.
        top: how many tokens of each expert, at most; only those with a lift above 1.
        min_count: least number of tokens of a type.
    """
    sums, layers = GroupedSums.of(stats), []
    for place, group in enumerate(sums.groups):
        kinds = stats.affinity.select("input", None if group == ALL else place)
        counts, sizes, tokens_of_rows = kinds.total(), kinds.total_tokens(), kinds.tokens
        for row, layer in enumerate(stats.layers):
            load, tokens = sums.total.counts[row, place], sums.total.tokens[row, place]
            by_fold = _ByFold(kinds, kinds.of_layer(row), tokens_of_rows[row])
            types = _Types.of(by_fold, counts[row], sizes[row], load, tokens, min_count)
            layers.append(_Strongest(types, {"layer": layer, "group": group}, top))
    rates = metrics.false_discovery_rates(np.concatenate([layer.types.p.ravel() for layer in layers]))
    of_layer = np.split(rates, np.cumsum([layer.types.p.size for layer in layers])[:-1])
    scope = f"one layer; {sums.tokens_scope}; token types met {min_count} times or more; "
    none = f"no token type was met {min_count} times"
    parts = [layer.rows(stats, part, scope, none) for layer, part in zip(layers, of_layer, strict=True)]
    return tidy([part for both in parts for part in both], SPEC)


class _ByFold(NamedTuple):
    """The rows of a group in one layer, one for each fold and type that occurs in it."""

    kinds: TypeCounts
    """All types of the group."""
    counts: NDArray[np.int64]
    """[R, E]"""
    n: Floats
    """[R] tokens."""


class _Types(NamedTuple):
    """The types of one group that were met often enough, in one layer."""

    kinds: TypeCounts
    """All types of the group."""
    ids: NDArray[np.int64]
    """[V]"""
    n: Floats
    """[V] tokens of each."""
    folds: NDArray[np.int64]
    """[V] folds of documents with such tokens."""
    p: Floats
    """[V, E] of a consistent preference; NaN where it cannot be tested."""
    values: dict[str, Floats]
    """By metric, [V, E]."""
    nulls: dict[str, Floats]
    """By metric, [E]."""

    @classmethod
    def of(
        cls,
        by_fold: _ByFold,
        counts: NDArray[np.int64],
        sizes: Floats,
        load: NDArray[np.int64],
        tokens: np.int64,
        min_count: int,
    ) -> "_Types":
        """Return the types with `min_count` tokens of a layer.

        Args:
            by_fold: the rows of the layer.
            counts: [V, E] of all types.
            sizes: [V] tokens of each.
            load: [E] of the layer.
            tokens: of the layer.
            min_count: least number of tokens.
        """
        kinds, types = by_fold.kinds, np.flatnonzero(sizes >= min_count)
        ids, counts, n = kinds.ids[types], counts[types], sizes[types]
        folds = np.bincount(kinds.place[by_fold.n > 0], minlength=len(kinds.ids))[types]
        p = metrics.consistent_lift_p_values(by_fold.counts, by_fold.n, kinds.fold, kinds.place, types)
        values = {
            "token_lift": metrics.token_lift(counts, n, load, tokens),
            "token_npmi": metrics.token_npmi(counts, n, load),
            "token_log_odds": metrics.token_log_odds(counts, n, load, tokens, prior=PRIOR),
            "token_frequency": metrics.ratio(counts, n[:, None]),
        }
        fixed = {"token_lift": 1.0, "token_npmi": 0.0, "token_log_odds": 0.0}
        nulls = {name: np.full(len(load), value) for name, value in fixed.items()}
        nulls["token_frequency"] = metrics.selection_frequency(load, tokens)
        return cls(kinds, ids, n, folds, p, values, nulls)

    def strongest(self, expert: int, top: int) -> NDArray[np.intp]:
        """[up to top] the types with the highest lift above 1, the most frequent of equals first."""
        lift = self.values["token_lift"][:, expert]
        order = np.lexsort((self.ids, -self.n, -np.nan_to_num(lift)))
        return order[lift[order] > 1][:top]


class _Strongest(NamedTuple):
    """The strongest types of each expert of one group, in one layer."""

    types: _Types
    keys: dict[str, Any]
    top: int

    def rows(self, stats: RoutingStats, rates: Floats, scope: str, none: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows, R for each metric, and those of the false discovery rates.

        Args:
            stats: the statistics.
            rates: [V E] the rates of all types and experts.
            scope: of the rows.
            none: why there may be no type.
        """
        types = self.types
        best = [types.strongest(expert, self.top) for expert in range(stats.num_experts)]
        # An expert without tokens has one row that says so.
        sizes = np.array([max(len(places), 1) for places in best])
        expert, place = np.repeat(np.arange(len(best)), sizes), np.concatenate([np.arange(size) for size in sizes])
        present = np.array([len(places) > 0 for places in best])[expert]
        at = np.concatenate(best)
        token = np.array([stats.affinity.pieces.get(int(token)) for token in types.ids[at]], object)
        keys = self.keys | {
            "expert": expert,
            "place": _where(present, place[present], pd.NA),
            "token_id": _where(present, types.ids[at], pd.NA),
            "token": _where(present, token, None),
        }
        scope = f"{scope}{len(types.ids):,} of them tried; "
        missing = scope + self._why_missing(none)
        plain = self._value_rows(keys, at, present, np.where(present, scope + STRONGEST, missing))
        return plain, self._rate_rows(keys, at, present, rates, scope, missing)

    def _why_missing(self, none: str) -> str:
        why = none if len(self.types.kinds.ids) else NO_IDS["input"]
        why = "the expert was chosen for none more often than its load explains" if len(self.types.ids) else why
        return f"not enough data: {why}"

    def _value_rows(
        self, keys: dict[str, Any], at: Places, present: NDArray[np.bool_], scope: NDArray[Any]
    ) -> pd.DataFrame:
        types, expert = self.types, keys["expert"]
        value = np.stack([part[at, expert[present]] for part in types.values.values()])
        return rows(
            keys,
            np.array(list(types.values), object)[:, None],
            _where(present, value, np.nan),
            null=np.stack([types.nulls[name][expert] for name in types.values]),
            n=_where(present, types.n[at].astype(np.int64), 0),
            scope=scope,
        )

    def _rate_rows(
        self, keys: dict[str, Any], at: Places, present: NDArray[np.bool_], rates: Floats, scope: str, missing: str
    ) -> pd.DataFrame:
        types = self.types
        rate = rates.reshape(types.p.shape)[at, keys["expert"][present]]
        known, folds = np.isfinite(rate), types.folds[at]
        few = [f"{scope}not enough data: {_few_folds(types.kinds.halved, count)}" for count in folds]
        tested = [f"{scope}consistent in {count} folds of documents; {_FAMILY}" for count in folds]
        return rows(
            keys,
            FALSE_DISCOVERY,
            _where(present, rate, np.nan),
            null=1.0,
            n=_where(present, np.where(known, types.n[at].astype(np.int64), 0), 0),
            scope=_where(present, np.where(known, np.array(tested, object), np.array(few, object)), missing),
        )


def _few_folds(halved: bool, folds: int) -> str:
    """Say why a type has no rate."""
    if halved:
        return "statistics of an earlier version know documents by half only"
    return f"the type is in {folds} fold{'s' * int(folds != 1)} of documents, {metrics.MIN_FOLDS} are needed for a test"


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
        FALSE_DISCOVERY: Metric(
            "Benjamini-Hochberg: share of false finds if this and all with a smaller p are believed; test in `scope`",
            "false discovery rate",
            ".2g",
            SHARE,
            NO_PREFERENCE,
        ),
    },
    figures=(),
    narrows=True,
)
