"""How often neighbouring tokens go to the same experts: `repetition`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import MAX_LAG, SHUFFLED_REPEATS, RoutingStats, with_all
from mixtral_probe.tables.frame import missing_rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import BlockFormula
from mixtral_probe.tables.phrases import OLD_STATISTICS, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, Options, TableSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_WITHIN = "tokens `lag` apart within a window, no special token between"
_SHUFFLED = "tokens of each document shuffled, on average"
_TOO_FAR = "no tokens that far apart"
_REPEATS: dict[str, Callable[..., Floats]] = {
    "repetition_first": metrics.repetition_first,
    "repetition_any": metrics.repetition_any,
    "overlap": metrics.overlap,
}


@of_stats
def repetition(stats: RoutingStats) -> pd.DataFrame:
    """Return how often tokens 1 to 8 apart go to the same experts, per layer, group and lag.

    Columns: layer, group, lag, metric, value, corrected, low, high, null, n, scope. n counts pairs of tokens.
    """
    sums = GroupedSums.of(stats)
    repeats = with_all(stats.structure.repeats, stats.by)  # [L, G, Bk, lag, 2, K + 1]
    sizes, keys = repeats.sum((-1, -2)), sums.keys(lag=np.arange(1, MAX_LAG + 1))  # sizes: [L, G, Bk, lag]
    formulas = [*_observed(sums, repeats, sizes), *_shuffled(sums, sizes)]
    parts = [formula.rows(keys, sizes, folded=stats.folded) for formula in formulas]
    return tidy([*parts, *_missing(sums, keys)], SPEC)


def _observed(sums: GroupedSums, repeats: Counts, sizes: Counts) -> list[BlockFormula]:
    return [
        BlockFormula(name, _REPEATS[name], (repeats,), null, sizes.sum(2), about + _WITHIN, _TOO_FAR)
        for name, (null, about) in _nulls(sums).items()
    ]


def _shuffled(sums: GroupedSums, sizes: Counts) -> list[BlockFormula]:
    nulls, expected = _nulls(sums), sums.stats.value_sums.shuffled_repeats
    if expected is None:
        return []
    by_metric = np.moveaxis(with_all(expected, sums.stats.by), -2, 0)
    return [
        BlockFormula(
            f"{name}_shuffled", metrics.ratio, (repeats, sizes), nulls[name][0], sizes.sum(2),
            nulls[name][1] + _SHUFFLED, _TOO_FAR,
        )
        for name, repeats in zip(SHUFFLED_REPEATS, by_metric, strict=False)
    ]  # fmt: skip


def _missing(sums: GroupedSums, keys: dict[str, Any]) -> list[pd.DataFrame]:
    """Return the rows that say why there are no expected repeats."""
    if sums.stats.value_sums.shuffled_repeats is not None:
        return []
    shape = np.broadcast_shapes(*(np.shape(key) for key in keys.values()))
    return [missing_rows(keys, f"{name}_shuffled", shape, OLD_STATISTICS) for name in SHUFFLED_REPEATS]


def _nulls(sums: GroupedSums) -> dict[str, tuple[Floats | float, str]]:
    """Return the null of each metric, and the beginning of its scope."""
    stats, sets = sums.stats, _sets(sums.stats)
    pairs = with_all(stats.structure.pairs, stats.by).sum(2)
    all_sets = None if sets is None else with_all(sets, stats.by).sum(2)
    fitted = metrics.independent_repetition(sums.total.load, pairs, sums.total.tokens, shuffled=False, sets=all_sets)
    nulls: dict[str, tuple[Floats | float, str]] = {}
    for name, even in metrics.uniform_repetition(stats.num_experts, stats.num_experts_per_tok).items():
        fit = "two tokens with these loads" if name in fitted else "uniform routing"
        about = f"one layer; {sums.tokens_scope}; n in pairs; null: {fit}; uniform routing {even:.4g}; "
        nulls[name] = (fitted[name][..., None] if name in fitted else even, about)
    return nulls


def _sets(stats: RoutingStats) -> Counts | None:
    """[L, G, Bk, S] tokens by the set they chose, None where sets are not counted."""
    sets = stats.structure.sets
    return sets if sets.shape[-1] else None


def _middle_layer(table: pd.DataFrame) -> list[Options]:
    layers = sorted(int(layer) for layer in table["layer"].unique())
    return [{"layer": layers[len(layers) // 2]}]


_NULL = "two tokens with these loads"
SPEC = TableSpec(
    function=repetition,
    source="stats",
    description="How often tokens 1 to 8 apart go to the same experts; n counts pairs of tokens.",
    keys=("layer", "group", "lag"),
    metrics={
        "repetition_first": Metric(
            "share of pairs of tokens with the same first choice; null: two tokens with the same loads",
            "same first choice",
            ".1%",
            SHARE,
            _NULL,
        ),
        "repetition_any": Metric(
            "share of pairs of tokens with any expert in common; null: as above, uniform above 256 sets",
            "any expert in common",
            ".1%",
            SHARE,
            _NULL,
        ),
        "overlap": Metric(
            "mean share of a token's K experts that the other chose too; null: two tokens with the same loads",
            "share of experts in common",
            ".1%",
            SHARE,
            _NULL,
        ),
        "repetition_first_shuffled": Metric(
            "what repetition_first is on average when each document's tokens are shuffled",
            "same first choice, tokens shuffled",
            ".1%",
            SHARE,
            _NULL,
        ),
        "repetition_any_shuffled": Metric(
            "what repetition_any is on average when each document's tokens are shuffled",
            "any expert in common, tokens shuffled",
            ".1%",
            SHARE,
            _NULL,
        ),
        "overlap_shuffled": Metric(
            "what overlap is on average when each document's tokens are shuffled",
            "share of experts in common, tokens shuffled",
            ".1%",
            SHARE,
            _NULL,
        ),
    },
    figures=(Drawing("repetition"), Drawing("repetition_lags", _middle_layer)),
    narrows=True,
)
