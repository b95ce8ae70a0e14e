"""What topic, position and token tell about the chosen expert: `mutual_information`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, TARGETS, RoutingStats, with_all
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate, estimate_rows
from mixtral_probe.tables.phrases import NOTHING_TO_TELL, RARE_TYPES
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.specialization.information import BITS, CORRECTED, INFORMATION, share_of_entropy
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
_OF_TARGET = {"input": "token", "next": "next token", "predicted": "predicted token"}


def mutual_information(stats: RoutingStats) -> pd.DataFrame:
    """Return what topic, position and token tell about the chosen expert, plug-in and less what chance adds.

    Columns: layer, group, variable, metric, value, corrected, low, high, null, n, scope. Each of a token's K experts
    counts 1/K. Topics are compared in group "all" only; their interval takes their shares of the tokens as fixed,
    as in a corpus that was composed by topic, and needs two documents of each.
    """
    sums = GroupedSums.of(stats)
    parts = [*_of_position(sums), *(part for target in TARGETS for part in _of_token(sums, target))]
    if stats.by is not None:
        parts += [*_of_domain(sums), *_of_domain_in_token(sums)]
    return tidy(parts, SPEC)


def _of_position(sums: GroupedSums) -> list[pd.DataFrame]:
    joint = with_all(sums.stats.structure.positions, sums.stats.by)
    deleted = joint.sum(2, keepdims=True) - joint  # [L, G, Bk, P, E]
    return _with_intervals(sums, "position", sums.keys(), joint.sum(2), deleted, sums.sizes)


def _of_domain(sums: GroupedSums) -> list[pd.DataFrame]:
    """Return rows of the groups, whose shares of the tokens stay fixed while a group's documents are left out."""
    counts = sums.stats.sums.counts  # [L, G, Bk, E]
    joint, (layers, groups, blocks, _) = counts.sum(2), counts.shape
    deleted = joint[:, :, None] - counts
    rest = metrics.ratio(deleted * joint.sum(-1)[..., None, None], deleted.sum(-1, keepdims=True))
    less = np.broadcast_to(joint[:, None, None], (layers, groups, blocks, *joint.shape[1:])).astype(np.float64)
    for group in range(groups):
        less[:, group, :, group] = rest[:, group]
    less = less.reshape(layers, 1, groups * blocks, *joint.shape[1:])
    sizes = sums.stats.sums.tokens.reshape(layers, 1, groups * blocks)
    strata = np.repeat(np.arange(groups), blocks)
    return _with_intervals(sums, "domain", sums.keys() | {"group": ALL}, joint[:, None], less, sizes, strata)


def _with_intervals(
    sums: GroupedSums,
    variable: str,
    keys: dict[str, Any],
    joint: Counts,
    deleted: NDArray[Any],
    sizes: Counts,
    strata: NDArray[np.intp] | None = None,
) -> list[pd.DataFrame]:
    """Return rows of counts [L, G, R, E], and [L, G, Bk, R, E] with one block left out."""
    chosen, bits = sums.stats.num_experts_per_tok, float(np.log2(sums.stats.num_experts))
    tokens = np.broadcast_to(sizes.sum(-1), joint.shape[:2])
    parts = []
    for name, formula in _FORMULAS.items():
        bounds, null = (-np.inf, bits), np.zeros(1)
        if name == BITS:
            bounds, null = (0.0, bits), metrics.mutual_information_bias(joint, chosen=chosen)
        value, less = formula(joint, chosen), formula(deleted, chosen)
        estimated = estimate(value, less, sizes, folded=sums.stats.folded, bounds=bounds, strata=strata)
        named = keys | {"variable": variable}
        parts.append(estimate_rows(named, name, estimated, null, tokens, _scope(sums, variable)))
    return parts


def _plugin(joint: Counts, chosen: int) -> Floats:
    return metrics.mutual_information_bits(joint)


def _corrected(joint: Counts, chosen: int) -> Floats:
    return metrics.mutual_information_bits(joint) - metrics.mutual_information_bias(joint, chosen=chosen)


def _share(joint: Counts, chosen: int) -> Floats:
    return share_of_entropy(_corrected(joint, chosen), joint.sum(-2))


_FORMULAS: dict[str, Callable[[Counts, int], Floats]] = {BITS: _plugin, CORRECTED: _corrected, SHARE: _share}


def _scope(sums: GroupedSums, variable: str) -> str:
    return f"one layer; {sums.tokens_scope}; {_VARIABLES[variable]}; each choice of a token counts 1/K"


def _of_token(sums: GroupedSums, target: str) -> list[pd.DataFrame]:
    numbers = [None if name == ALL else number for number, name in enumerate(sums.groups)]
    joint = [sums.stats.affinity.select(target, number).total() for number in numbers]  # each [L, V, E]
    bits = np.stack([metrics.mutual_information_bits(counts) for counts in joint], axis=1)
    chosen = sums.stats.num_experts_per_tok
    bias = np.stack([metrics.mutual_information_bias(counts, chosen=chosen) for counts in joint], axis=1)
    load = np.stack([counts.sum(1) for counts in joint], axis=1)
    return _without_intervals(sums, _OF_TARGET[target], sums.keys(), bits, bias, load, NO_IDS[target])


def _of_domain_in_token(sums: GroupedSums) -> list[pd.DataFrame]:
    kinds = [sums.stats.affinity.select("input", number) for number in range(len(sums.stats.groups))]
    groups = [(group.ids, group.total()) for group in kinds]
    types = np.unique(np.concatenate([ids for ids, _ in groups]))
    layers, chosen = len(sums.stats.layers), sums.stats.num_experts_per_tok
    bits, bias, load = np.zeros((layers, 1)), np.zeros((layers, 1)), np.zeros((layers, 1, sums.stats.num_experts))
    for layer in range(layers):  # one at a time: tokens x groups x experts may be many
        joint = np.zeros((len(types), len(groups), sums.stats.num_experts), np.int64)
        for number, (ids, counts) in enumerate(groups):
            joint[np.searchsorted(types, ids), number] = counts[layer]
        bits[layer] = metrics.conditional_mutual_information_bits(joint)
        bias[layer] = metrics.conditional_mutual_information_bias(joint, chosen=chosen)
        load[layer] = joint.sum((0, 1))
    keys = sums.keys() | {"group": ALL}
    return _without_intervals(sums, "domain|token", keys, bits, bias, load, NO_IDS["input"])


def _without_intervals(
    sums: GroupedSums,
    variable: str,
    keys: dict[str, Any],
    bits: Floats,
    bias: Floats,
    load: NDArray[Any],
    missing: str,
) -> list[pd.DataFrame]:
    """Return rows of what is counted per half of the documents only; bits and bias [L, G], load [L, G, E]."""
    n, scope = load.sum(-1) // sums.stats.num_experts_per_tok, _scope(sums, variable)
    scopes = np.where(n > 0, f"{scope}; {RARE_TYPES}", f"{scope}; not enough data: {missing}")
    less = bits - bias
    values = (bits, bias), (less, np.zeros(1)), (share_of_entropy(less, load), np.zeros(1))
    return [
        rows(keys | {"variable": variable}, name, np.where(n > 0, value, np.nan), null=null, n=n, scope=scopes)
        for name, (value, null) in zip(SPEC.metrics, values, strict=True)
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
    },
    figures=(Drawing("mutual_information"),),
    narrows=True,
)
