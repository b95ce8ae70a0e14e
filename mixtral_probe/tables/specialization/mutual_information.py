"""What topic, position and token tell about the chosen expert: `mutual_information`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, TARGETS, RoutingStats, Sums, with_all
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import Estimate, estimate, estimate_rows
from mixtral_probe.tables.phrases import NOTHING_TO_TELL, RARE_TYPES
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.information import BITS, CORRECTED, INFORMATION, share_of_entropy
from mixtral_probe.tables.specialization.label_shuffles import (
    TESTS,
    Documents,
    LabelTest,
    chance,
    excess,
    shuffled_values,
)
from mixtral_probe.tables.specialization.token_types import NO_IDS

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
SHARE = "mutual_information_share"
_VARIABLES = {
    "domain": "group of the document",
    "position": "position in the window: 0, 1, 2-3, 4-7, …",
    "token": "token routed",
    "next token": "token that follows",
    "predicted token": "token the model expects next",
    "domain|token": "group, among tokens of one type: topic without lexicon",
}
_INDEPENDENT = "null: independent tokens"
_SHUFFLED = "null: labels shuffled over documents, at the spread of documents within the groups"
_UNCHANGED = "no tokens, or shuffled labels change nothing: one group alone, or one document in each"
_OF_TARGET = {"input": "token", "next": "next token", "predicted": "predicted token"}


@of_stats
def mutual_information(stats: RoutingStats) -> pd.DataFrame:
    """Return what topic, position and token tell about the chosen expert, plug-in and less what chance adds.

    Columns: layer, group, variable, metric, value, corrected, low, high, null, n, scope. Each of a token's K experts
    counts 1/K. Topics are compared in group "all" only; their interval takes their shares of the tokens as fixed,
    as in a corpus that was composed by topic, and needs two documents of each.

    Documents differ whatever their topic, so chance for the topic is what labels shuffled over documents give, 199
    times. What a shuffle gives is divided by what the spread of the documents within its groups gives
    (`metrics.spread_information_bits`) and multiplied by that of the real groups: then groups of few, short or bundled
    documents have their own chance, and groups mixed of different topics no higher one. The p-value compares the same
    quotients, standardised and pooled over layers. Chance for the other variables is that of independent tokens, which
    is too low where documents differ: `domain_information` and `context_information` compare with shuffles.
    """
    sums = GroupedSums.of(stats)
    parts = [*_of_position(sums), *(part for target in TARGETS for part in _of_token(sums, target))]
    if stats.by is not None:
        parts += [*_of_domain(sums), *_of_domain_in_token(sums)]
    return tidy(parts, SPEC)


def _of_position(sums: GroupedSums) -> list[pd.DataFrame]:
    joint = with_all(sums.stats.structure.positions, sums.stats.by)
    value, deleted = joint.sum(2), joint.sum(2, keepdims=True) - joint  # [L, G, P, E], [L, G, Bk, P, E]
    exclusion, less = (_exclusion(part) for part in (sums.total, sums.deleted))
    keys, n = sums.keys() | {"variable": "position"}, sums.sizes.sum(-1)
    parts = []
    for name, formula in _FORMULAS.items():
        bounds = _bounds(sums.stats, name)
        null = metrics.mutual_information_bias(value, exclusion=exclusion) if name == BITS else 0.0
        numbers = formula(value, exclusion), formula(deleted, less)
        estimated = estimate(*numbers, sums.sizes, folded=sums.stats.folded, bounds=bounds)
        parts.append(estimate_rows(keys, name, estimated, null, n, f"{_scope(sums, 'position')}; {_INDEPENDENT}"))
    return parts


def _of_domain(sums: GroupedSums) -> list[pd.DataFrame]:
    """Return the rows of the groups, compared with shuffled labels, and those of the test."""
    stats, documents = sums.stats, Documents.of(sums.stats)
    bits, spread = shuffled_values(documents, _information_of, metrics.spread_information_bits)
    arrangements, load = documents.arrangements(), stats.sums.counts.sum((1, 2))
    null = np.where(arrangements > 1, chance(bits, spread), np.nan)
    keys, n = {"layer": np.array(stats.layers), "group": ALL, "variable": "domain"}, stats.sums.tokens.sum((1, 2))
    scope = _scope(sums, "domain")
    compared = np.where(np.isnan(null), f"{scope}; no null: {_UNCHANGED}", f"{scope}; {_SHUFFLED}")
    above = {
        CORRECTED: _above(_estimate_domain(stats, CORRECTED, metrics.mutual_information_bits), null),
        SHARE: _above(_estimate_domain(stats, SHARE, _plain_share), share_of_entropy(null, load)),
    }
    return [
        estimate_rows(keys, BITS, _estimate_domain(stats, BITS, metrics.mutual_information_bits), null, n, compared),
        *(estimate_rows(keys, name, part, 0.0, n, compared, _UNCHANGED) for name, part in above.items()),
        *LabelTest.of(excess(bits, spread), arrangements, "all layers").rows(keys, n, scope, folded=stats.folded),
    ]


def _information_of(loads: metrics.GroupLoads) -> Floats:
    return metrics.mutual_information_bits(loads.counts)


def _estimate_domain(stats: RoutingStats, name: str, formula: Callable[[NDArray[Any]], Floats]) -> Estimate:
    """[L] a formula of the groups' counts, whose shares of the tokens stay fixed while documents are left out."""
    counts = stats.sums.counts  # [L, G, Bk, E]
    joint, (layers, groups, blocks, _) = counts.sum(2), counts.shape
    deleted = joint[:, :, None] - counts
    rest = metrics.ratio(deleted * joint.sum(-1)[..., None, None], deleted.sum(-1, keepdims=True))
    less = np.broadcast_to(joint[:, None, None], (layers, groups, blocks, *joint.shape[1:])).astype(np.float64)
    for group in range(groups):
        less[:, group, :, group] = rest[:, group]
    return estimate(
        formula(joint),
        formula(less.reshape(layers, groups * blocks, *joint.shape[1:])),
        stats.sums.tokens.reshape(layers, groups * blocks),
        folded=stats.folded,
        bounds=_bounds(stats, name),
        strata=np.repeat(np.arange(groups), blocks),
    )


def _above(estimated: Estimate, null: Floats) -> Estimate:
    """Return an estimate less its null; without a null there is none."""
    gone = np.isnan(null)
    corrected, low, high = (
        np.where(gone, np.nan, part) for part in (estimated.corrected, estimated.low, estimated.high)
    )
    return replace(estimated.less(null), corrected=corrected, low=low, high=high)


def _bounds(stats: RoutingStats, name: str) -> tuple[float, float]:
    return 0.0 if name == BITS else -np.inf, float(np.log2(stats.num_experts))


def _plain_share(joint: NDArray[Any]) -> Floats:
    return share_of_entropy(metrics.mutual_information_bits(joint), joint.sum(-2))


def _exclusion(sums: Sums) -> Floats:
    """[...] how much less the choices of these tokens vary than as many tokens would."""
    return metrics.choice_exclusion(sums.choices, sums.load.shape[-1])


def _plugin(joint: Counts, exclusion: Floats) -> Floats:
    return metrics.mutual_information_bits(joint)


def _corrected(joint: Counts, exclusion: Floats) -> Floats:
    return metrics.mutual_information_bits(joint) - metrics.mutual_information_bias(joint, exclusion=exclusion)


def _share(joint: Counts, exclusion: Floats) -> Floats:
    return share_of_entropy(_corrected(joint, exclusion), joint.sum(-2))


_FORMULAS: dict[str, Callable[[Counts, Floats], Floats]] = {BITS: _plugin, CORRECTED: _corrected, SHARE: _share}


def _scope(sums: GroupedSums, variable: str) -> str:
    return f"one layer; {sums.tokens_scope}; {_VARIABLES[variable]}; each choice of a token counts 1/K"


def _of_token(sums: GroupedSums, target: str) -> list[pd.DataFrame]:
    numbers = [None if name == ALL else number for number, name in enumerate(sums.groups)]
    kinds = [sums.stats.affinity.select(target, number) for number in numbers]
    joint, n = [types.total() for types in kinds], [types.total_tokens().sum(-1) for types in kinds]  # [L, V, E], [L]
    bits = np.stack([metrics.mutual_information_bits(counts) for counts in joint], axis=1)
    exclusions = np.moveaxis(_exclusion(sums.total), 1, 0)  # of all tokens of a group
    bias = np.stack(
        [metrics.mutual_information_bias(c, exclusion=one) for c, one in zip(joint, exclusions, strict=True)], axis=1
    )
    load = np.stack([counts.sum(1) for counts in joint], axis=1)
    keys, tokens = sums.keys(), np.stack(n, axis=1)
    return _without_intervals(sums, _OF_TARGET[target], keys, bits, bias, load, tokens, NO_IDS[target])


def _of_domain_in_token(sums: GroupedSums) -> list[pd.DataFrame]:
    kinds = [sums.stats.affinity.select("input", number) for number in range(len(sums.stats.groups))]
    groups = [(group.ids, group.total()) for group in kinds]
    types = np.unique(np.concatenate([ids for ids, _ in groups]))
    layers, exclusion = len(sums.stats.layers), _exclusion(sums.total)[:, -1]
    bits, bias, load = np.zeros((layers, 1)), np.zeros((layers, 1)), np.zeros((layers, 1, sums.stats.num_experts))
    for layer in range(layers):  # one at a time: tokens x groups x experts may be many
        joint = np.zeros((len(types), len(groups), sums.stats.num_experts), np.int64)
        for number, (ids, counts) in enumerate(groups):
            joint[np.searchsorted(types, ids), number] = counts[layer]
        bits[layer] = metrics.conditional_mutual_information_bits(joint)
        bias[layer] = metrics.conditional_mutual_information_bias(joint, exclusion=exclusion[layer])
        load[layer] = joint.sum((0, 1))
    keys = sums.keys() | {"group": ALL}
    n = sum(group.total_tokens().sum(-1) for group in kinds)[:, None]
    return _without_intervals(sums, "domain|token", keys, bits, bias, load, n, NO_IDS["input"])


def _without_intervals(
    sums: GroupedSums,
    variable: str,
    keys: dict[str, Any],
    bits: Floats,
    bias: Floats,
    load: NDArray[Any],
    tokens: Floats,
    missing: str,
) -> list[pd.DataFrame]:
    """Return rows of what is counted by fold of the documents only; bits, bias, tokens [L, G], load [L, G, E]."""
    n, scope = np.ceil(tokens).astype(np.int64), f"{_scope(sums, variable)}; {_INDEPENDENT}"
    scopes = np.where(n > 0, f"{scope}; {RARE_TYPES}", f"{scope}; not enough data: {missing}")
    less = bits - bias
    values = (bits, bias), (less, np.zeros(1)), (share_of_entropy(less, load), np.zeros(1))
    return [
        rows(keys | {"variable": variable}, name, np.where(n > 0, value, np.nan), null=null, n=n, scope=scopes)
        for name, (value, null) in zip(_FORMULAS, values, strict=True)
    ]


SPEC = TableSpec(
    function=mutual_information,
    source="stats",
    description=(
        "What topic, position and token tell about the expert, bits; topics are compared in group `all` only."
    ),
    keys=("layer", "group", "variable"),
    metrics=INFORMATION
    | {
        SHARE: Metric(
            "the corrected value / H(E), the entropy of the expert; null 0",
            "information / entropy of the expert",
            ".2%",
            null=NOTHING_TO_TELL,
        )
    }
    | TESTS,
    figures=(Drawing("mutual_information"),),
    narrows=True,
)
