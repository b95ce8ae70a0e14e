"""Which experts are chosen together: `coactivation`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import BlockFormula
from mixtral_probe.tables.phrases import NO_PREFERENCE, POSITIVE, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@of_stats
def coactivation(stats: RoutingStats) -> pd.DataFrame:
    """Return which experts are chosen together, for every ordered pair of different experts of a layer.

    Columns: layer, group, expert, other_expert, metric, value, corrected, low, high, null, n, scope. The null is a
    router with the same loads and no preference among pairs (`metrics.expected_pairs`).
    """
    sums, experts = GroupedSums.of(stats), np.arange(stats.num_experts)
    pairs, counts, tokens = (
        with_all(array, stats.by) for array in (stats.structure.pairs, stats.sums.counts, stats.sums.tokens)
    )
    about = f"one layer; {sums.tokens_scope}; null: same loads, no preference among pairs; "
    keys = sums.keys(expert=experts, other_expert=experts)
    plan = _formulas(pairs, counts, tokens, about)
    parts = [formula.rows(keys, sizes, folded=stats.folded) for formula, sizes in plan]
    table = pd.concat([*parts, _preference(keys, pairs.sum(2), counts.sum(2), about)], ignore_index=True)
    return tidy([table[table["expert"] != table["other_expert"]]], SPEC)


def _formulas(pairs: Counts, counts: Counts, tokens: Counts, about: str) -> list[tuple[BlockFormula, Counts]]:
    """Return each metric with the tokens per block [L, G, Bk, E, E or 1] that its rows rest on."""
    both, n, total = pairs.sum(2), counts.sum(2), tokens.sum(2)
    expected, of_expert = metrics.expected_pairs(both), counts[..., :, None]
    of_either = of_expert + counts[..., None, :] - pairs
    conditional, jaccard, lift = (
        metrics.coactivation_conditional, metrics.coactivation_jaccard, metrics.coactivation_lift
    )  # fmt: skip
    plan: list[tuple[Any, ...]] = [
        ("conditional", conditional, conditional(expected, n), of_expert, "of the tokens of `expert`"),
        ("buddy_share", _buddy_share, metrics.buddy_share(expected), of_expert, "share of the pairs of `expert`"),
        ("jaccard", jaccard, jaccard(expected, n), of_either, "of the tokens of either"),
    ]
    never = "the expert was never chosen"
    formulas = [
        (
            BlockFormula(
                f"coactivation_{name}", formula, (pairs, counts), null, size.sum(2), about + words, never, events=pairs
            ),
            size,
        )
        for name, formula, null, size, words in plan
    ]
    words, null = about + "share of both / product of the shares", lift(expected, n, total)
    of_lift = (pairs, counts, tokens), null, total[..., None, None], words, never, POSITIVE, pairs
    every = BlockFormula("coactivation_lift", lift, *of_lift, left_out=tokens[..., None, None] > 0)
    return [*formulas, (every, _of_rarer(counts))]


def _of_rarer(counts: Counts) -> Counts:
    """[L, G, Bk, E, E] tokens of the expert of each pair that was chosen less often."""
    total = counts.sum(2)[:, :, None]
    one, other = counts[..., :, None], counts[..., None, :]
    return np.where(total[..., :, None] <= total[..., None, :], one, other)


def _buddy_share(pairs: Counts, _counts: Counts) -> Floats:
    return metrics.buddy_share(pairs)


def _preference(keys: dict[str, Any], both: Counts, counts: Counts, about: str) -> pd.DataFrame:
    either = counts[..., :, None] + counts[..., None, :] - both
    value = np.log2((both + 0.5) / (metrics.expected_pairs(both) + 0.5))
    words = np.where(either > 0, "no interval: its null is fitted", "not enough data: neither was ever chosen")
    value, scope = np.where(either > 0, value, np.nan), (about + "both against the null; ") + words.astype(object)
    return rows(keys, "coactivation_preference", value, null=0.0, n=either, scope=scope)


SPEC = TableSpec(
    function=coactivation,
    source="stats",
    description="Which experts are chosen together; null: a router with these loads and no preference among pairs.",
    keys=("layer", "group", "expert", "other_expert"),
    metrics={
        "coactivation_conditional": Metric(
            "share of the tokens of `expert` that chose `other_expert` too, (K-1)/(E-1) when even",
            "share of the expert's tokens",
            ".1%",
            SHARE,
            NO_PREFERENCE,
        ),
        "coactivation_buddy_share": Metric(
            "of the tokens of `expert`, pairs with `other_expert` / all its pairs (BuddyMoE)",
            "share of the expert's pairs",
            ".1%",
            SHARE,
            NO_PREFERENCE,
        ),
        "coactivation_jaccard": Metric(
            "tokens that chose both / tokens that chose either", "both / either", ".2g", SHARE, NO_PREFERENCE
        ),
        "coactivation_preference": Metric(
            "log2 of tokens that chose both / the null's, half a token added to each; null 0",
            "preference, log2",
            "+.2f",
            null=NO_PREFERENCE,
        ),
        "coactivation_lift": Metric(
            "share of both / product of the shares; below 1 by construction: hold it against the null",
            "lift",
            bounds=POSITIVE,
            null=NO_PREFERENCE,
        ),
    },
    figures=(Drawing("coactivation"),),
    narrows=True,
)
