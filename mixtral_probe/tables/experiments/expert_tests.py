"""Experts of a sweep among each other: false discovery rates against their placebos, and ranks."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.tables.experiments.by_document import ByDocument
from mixtral_probe.tables.frame import rows
from mixtral_probe.tables.leave_one_out import Estimate, estimate, estimate_rows
from mixtral_probe.trace import AblationResult

Floats = NDArray[np.float64]
_FAMILY = "all experts and layers swept, of this group"
_RANKED = f"rank among {_FAMILY}, 1 = most lost"
_RANK_INTERVAL = (
    "95 % interval of the rank: from the paired jackknife intervals of all differences, at Bonferroni's level"
)


@dataclass(frozen=True)
class PlaceboTest:
    """The p-values of a sweep, from studentised draws pooled over the experts and layers of a group."""

    p: Floats
    """[L, G, E], NaN where there is none."""
    few: NDArray[np.bool_]
    """[L, G, E] whether there is none because the placebo can turn out in too few ways."""

    @classmethod
    def of(cls, result: AblationResult, documents: ByDocument, lost: Floats, draws: Floats) -> "PlaceboTest":
        """Compare what is lost per token [L, G, E] with the draws [D, L, G, E]."""
        if len(draws) < 2:
            return cls(np.full(lost.shape, np.nan), np.zeros(lost.shape, bool))
        ways = documents.sums(np.moveaxis(result.log_arrangements, 1, -1)).sum(2)
        few = ways < np.log(metrics.MIN_ARRANGEMENTS)
        tested = np.where(few, np.nan, lost)
        by_group = [
            metrics.studentised_p_values(tested[:, g], draws[:, :, g], alternative="two-sided")
            for g in range(lost.shape[1])
        ]
        return cls(np.stack(by_group, axis=1), few)

    def rows(self, keys: dict[str, Any], n: NDArray[np.int64], scope: str) -> Iterator[pd.DataFrame]:
        """Yield the rows of false discovery rates; n: [L, G, E] tokens."""
        if np.isnan(self.p).all():
            return
        rates = np.stack([metrics.false_discovery_rates(self.p[:, g]) for g in range(self.p.shape[1])], axis=1)
        known = ~np.isnan(rates)
        few, none = f"the placebo can turn out in fewer than {metrics.MIN_ARRANGEMENTS} ways: no p-value", "no tokens"
        missing = np.where(self.few, f"not enough data: {few}", f"not enough data: {none}")
        scopes = np.where(known, f"{scope}; family: {_FAMILY}; no interval", f"{scope}; " + missing.astype(object))
        yield rows(keys, "loss_increase_false_discovery", rates, null=1.0, n=np.where(known, n, 0), scope=scopes)


def rank_rows(keys: dict[str, Any], metric: str, sums: Floats, n: Floats, *, folded: bool, scope: str) -> pd.DataFrame:
    """Return the ranks of ratios of sums [L, G, Bk, E], tokens n alike, among all experts and layers of a group."""
    layers, groups, _, experts = sums.shape
    ranks = [_ranks(_flat(sums[:, g]), _flat(n[:, g])[0], folded) for g in range(groups)]  # [R] each, layers outside
    whole = Estimate(
        **{part.name: _unflat([getattr(r, part.name) for r in ranks], layers) for part in fields(Estimate)}
    )
    tokens = n.sum(2).astype(np.int64)
    null = (layers * experts + 1) / 2
    return estimate_rows(keys, metric, whole, null, tokens, f"{scope}; {_RANKED}")


def _ranks(sums: Floats, sizes: Floats, folded: bool) -> Estimate:
    """[R] the ranks of sums [R, Bk] over sizes [Bk]."""
    totals, tokens = sums.sum(1), sizes.sum()
    value = metrics.ratio(totals, tokens)
    deleted = metrics.ratio(totals[:, None] - sums, tokens - sizes)
    plain = estimate(value, deleted, np.broadcast_to(sizes, sums.shape), folded=folded)
    ranks = metrics.rank_intervals(value, deleted, sizes)
    bounded = ~np.isnan(plain.low)
    corrected, low, high = (np.where(bounded, part, np.nan) for part in (ranks.corrected, ranks.low, ranks.high))
    return Estimate(ranks.value, corrected, low, high, np.where(bounded, _RANK_INTERVAL, plain.words))


def _flat(sums: Floats) -> Floats:
    """[L · E, Bk] of [L, Bk, E]."""
    return np.moveaxis(sums, 1, -1).reshape(-1, sums.shape[1])


def _unflat(parts: list[NDArray[Any]], layers: int) -> NDArray[Any]:
    """[L, G, E] of G arrays [L · E]."""
    return np.stack([part.reshape(layers, -1) for part in parts], axis=1)
