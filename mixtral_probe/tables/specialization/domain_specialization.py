"""How differently each group of documents uses an expert: `domain_specialization`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Bounds, Estimate, estimate, estimate_rows
from mixtral_probe.tables.phrases import NO_GROUPS
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]
Formula = Callable[[Floats, Floats, Floats], Floats]


def domain_specialization(stats: RoutingStats) -> pd.DataFrame:
    """Return how much more or less each group uses an expert than all documents together do.

    Columns: layer, group, expert, metric, value, corrected, low, high, null, n, scope. The groups' shares of the tokens
    are held fixed, as a corpus that was put together by topic has them: the documents of each group are one stratum of
    the jackknife, and those of the other groups add their variance through "all". An interval needs two documents of
    each group. Without groups the table is empty and `attrs["note"]` says why.
    """
    if stats.by is None:
        return empty(SPEC, NO_GROUPS)
    return tidy([part for group in range(len(stats.groups)) for part in _group_rows(stats, group)], SPEC)


@dataclass(frozen=True)
class _Frequencies:
    """Shares of tokens that chose each expert: of one group, and of all with the groups' shares of tokens fixed."""

    group: Floats
    """[L, E], or [L, Bk of all groups, E] with one block left out."""
    whole: Floats
    """As `group`."""


def _frequencies(stats: RoutingStats, group: int) -> tuple[_Frequencies, _Frequencies]:
    """Return the frequencies of a group and of all, whole and with each block of each group left out."""
    counts, tokens = stats.sums.counts, stats.sums.tokens  # [L, G, Bk, E], [L, G, Bk]
    total, size = counts.sum(2), tokens.sum(2)
    frequency = np.nan_to_num(metrics.selection_frequency(total, size))  # [L, G, E]
    without = metrics.selection_frequency(total[:, :, None] - counts, size[:, :, None] - tokens)  # [L, G, Bk, E]
    share = metrics.ratio(size, size.sum(1, keepdims=True))[..., None]  # [L, G, 1]
    whole = (share * frequency).sum(1)
    deleted_whole = whole[:, None, None] + share[:, :, None] * (without - frequency[:, :, None])
    deleted = np.broadcast_to(frequency[:, group, None, None], without.shape).copy()
    deleted[:, group] = without[:, group]
    flat = (len(counts), -1, counts.shape[-1])
    return _Frequencies(frequency[:, group], whole), _Frequencies(deleted.reshape(flat), deleted_whole.reshape(flat))


def _group_rows(stats: RoutingStats, group: int) -> Iterator[pd.DataFrame]:
    n = stats.sums.tokens[:, group].sum(-1)  # [L]
    keys = {
        "layer": np.array(stats.layers)[:, None],
        "group": stats.groups[group],
        "expert": np.arange(stats.num_experts),
    }
    scope = f"one layer; {GroupedSums.of(stats).tokens_scope}; group against all, the groups' shares of tokens fixed"
    whole, deleted = _frequencies(stats, group)
    for name, formula in _FORMULAS.items():
        found = _estimate(stats, formula, whole, deleted, n, SPEC.metrics[name].bounds)
        table = estimate_rows(keys, name, found, 0.0, n, scope)
        yield table.assign(scope=table["scope"].str.replace("; one ", "; a group of one ", regex=False))


def _estimate(
    stats: RoutingStats,
    formula: Formula,
    whole: _Frequencies,
    deleted: _Frequencies,
    n: NDArray[np.int64],
    bounds: Bounds,
) -> Estimate:
    tokens = stats.sums.tokens  # [L, G, Bk]
    size = np.where(n > 0, n, np.nan)[:, None]
    return estimate(
        formula(whole.group, whole.whole, size),
        formula(deleted.group, deleted.whole, size[:, None]),
        tokens.reshape(len(tokens), -1),
        folded=stats.folded,
        bounds=bounds,
        strata=np.repeat(np.arange(tokens.shape[1]), tokens.shape[2]),
    )


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
    },
    figures=(Drawing("domain_specialization"),),
    narrows=True,
)
