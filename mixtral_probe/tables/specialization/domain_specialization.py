"""How differently each group of documents uses an expert: `domain_specialization`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import estimate_of_groups
from mixtral_probe.tables.leave_one_out import Bounds, Estimate, estimate_rows
from mixtral_probe.tables.phrases import NO_GROUPS
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.label_shuffles import TESTS, Documents, LabelTest, shuffled_values

Floats = NDArray[np.float64]
Formula = Callable[[Floats, Floats, Floats], Floats]


@of_stats
def domain_specialization(stats: RoutingStats) -> pd.DataFrame:
    """Return how much more or less each group uses an expert than all documents together do.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. The groups' shares of the tokens
    are held fixed, as a corpus that was put together by topic has them: the documents of each group are one stratum of
    the jackknife, and those of the other groups add their variance through "all". An interval needs five documents of
    the group and two of each other. Without groups the table is empty and `attrs["note"]` says why.

    The p-values are about `frequency_difference` in standard errors (`metrics.difference_t`), compared with those of
    labels shuffled over all documents, 199 times: a studentised permutation test, which holds too where the groups
    differ in the length or number of their documents (Janssen 1997). The draws are pooled over layers, groups and
    experts (`metrics.studentised_p_values`), and so are the false discoveries.
    """
    if stats.by is None:
        return empty(SPEC, NO_GROUPS)
    frequencies = _Frequencies.of(stats)
    parts = [part for group in range(len(stats.groups)) for part in _group_rows(stats, frequencies, group)]
    return tidy([*parts, *_test_rows(stats)], SPEC)


@dataclass(frozen=True)
class _Frequencies:
    """Shares of tokens that chose each expert, by group and of all, with the groups' shares of the tokens fixed."""

    groups: Floats
    """[L, G, E]"""
    groups_without: Floats
    """[L, G, Bk, E] of a group without one of its blocks."""
    whole: Floats
    """[L, E]"""
    whole_without: Floats
    """[L, G, Bk, E] of all without one block of a group."""

    @classmethod
    def of(cls, stats: RoutingStats) -> "_Frequencies":
        """Return the frequencies of statistics."""
        counts, tokens = stats.sums.counts, stats.sums.tokens  # [L, G, Bk, E], [L, G, Bk]
        total, size = counts.sum(2), tokens.sum(2)
        groups = np.nan_to_num(metrics.selection_frequency(total, size))
        without = metrics.selection_frequency(total[:, :, None] - counts, size[:, :, None] - tokens)
        share = metrics.ratio(size, size.sum(1, keepdims=True))[..., None]  # [L, G, 1]
        whole = (share * groups).sum(1)
        whole_without = whole[:, None, None] + share[:, :, None] * (without - groups[:, :, None])
        return cls(groups, without, whole, whole_without)

    def group_without(self, group: int) -> Floats:
        """[L, G, Bk, E] of one group without one block of any group: only its blocks change it."""
        without = np.broadcast_to(self.groups[:, group, None, None], self.groups_without.shape).copy()
        without[:, group] = self.groups_without[:, group]
        return without


def _group_rows(stats: RoutingStats, frequencies: _Frequencies, group: int) -> Iterator[pd.DataFrame]:
    n = stats.sums.tokens[:, group].sum(-1)  # [L]
    keys = _keys(stats, stats.groups[group])
    for name, formula in _FORMULAS.items():
        found = _estimate(stats, frequencies, group, formula, SPEC.metrics[name].bounds)
        yield estimate_rows(keys, name, found, 0.0, n, _scope(stats))


def _test_rows(stats: RoutingStats) -> list[pd.DataFrame]:
    documents = Documents.of(stats)
    (values,) = shuffled_values(documents, metrics.difference_t)  # [1 + DRAWS, L, G, E]
    numbers = documents.numbers
    of_group = np.stack([numbers, numbers.sum(1, keepdims=True) - numbers], -1)  # [L, G, 2]
    arrangements = np.apply_along_axis(metrics.distinct_arrangements, -1, of_group, interchangeable=True)
    test = LabelTest.of(values, arrangements[..., None], "all layers, groups and experts", alternative="two-sided")
    n = np.broadcast_to(stats.sums.tokens.sum(2)[..., None], test.p.shape)
    return test.rows(_keys(stats, np.array(stats.groups, object)[:, None]), n, _scope(stats), folded=stats.folded)


def _keys(stats: RoutingStats, group: ArrayLike) -> dict[str, Any]:
    """Return the keys of rows whose last axis is that of the experts, and the first that of the layers."""
    layer = np.array(stats.layers).reshape(-1, *(1,) * max(np.ndim(group), 1))
    return {"layer": layer, "group": group, "expert": np.arange(stats.num_experts)}


def _scope(stats: RoutingStats) -> str:
    words = tokens_scope(stats, stats.include_special)
    return f"one layer; {words}; group against all, the groups' shares of tokens fixed"


def _estimate(stats: RoutingStats, frequencies: _Frequencies, group: int, formula: Formula, bounds: Bounds) -> Estimate:
    tokens = stats.sums.tokens  # [L, G, Bk]
    size = tokens[:, group].sum(-1)
    size = np.where(size > 0, size, np.nan)
    deleted = formula(
        frequencies.group_without(group), frequencies.whole_without, size[:, None, None, None]
    )  # [L, G, Bk, E]
    value = formula(frequencies.groups[:, group], frequencies.whole, size[:, None])
    return estimate_of_groups(value, deleted, tokens, folded=stats.folded, bounds=bounds, essential=(group,))


def _difference(group: Floats, whole: Floats, tokens: Floats) -> Floats:
    return np.where(np.isnan(tokens), np.nan, group - whole)


def _log_ratio(group: Floats, whole: Floats, tokens: Floats) -> Floats:
    """log2 of the tokens that chose the expert to those expected of as many tokens of all, half a token added to each.

    0 for an expert that no token chose.
    """
    return np.log2(group * tokens + 0.5) - np.log2(whole * tokens + 0.5)


_FORMULAS: dict[str, Formula] = {"frequency_difference": _difference, "frequency_log2_ratio": _log_ratio}
SPEC = TableSpec(
    function=domain_specialization,
    source="stats",
    description="How much more each group of documents uses an expert than all together; empty without groups.",
    keys=("layer", "group", "expert"),
    metrics={
        "frequency_difference": Metric(
            "share of the group's tokens that chose the expert, less that of all tokens; 0 when alike",
            "difference of the share of tokens",
            "+.1%",
            (-1.0, 1.0),
            "as all documents",
        ),
        "frequency_log2_ratio": Metric(
            "log2 of the group's tokens that chose the expert / those expected, half a token added to each; 0 if alike",
            "log2 of the ratio of shares",
            "+.2f",
            null="as all documents",
        ),
    }
    | TESTS,
    figures=(Drawing("domain_specialization"),),
    narrows=True,
)
