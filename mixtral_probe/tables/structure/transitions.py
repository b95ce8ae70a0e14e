"""Choices of one layer and those of another: `transitions`."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import BlockFormula, estimate_rows, without_interval
from mixtral_probe.tables.phrases import CHANCE_ALONE, INDEPENDENT_LAYERS, NOTHING_TO_TELL, POSITIVE, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_ALL = "_all_choices"


@of_stats
def transitions(stats: RoutingStats) -> pd.DataFrame:
    """Return how a token's choices in one layer depend on those in another: the next, and the requested pairs.

    Columns: layer, other_layer, group, expert, other_expert, metric, value, corrected, low, high, null, n, scope. Rows
    without experts are about the two layers as wholes. Metrics are about first choices; those that end in
    `_all_choices` pair each of a token's K experts with each of its K in the other layer; with K = 1 they are left out.
    """
    sums, chosen = GroupedSums.of(stats), stats.num_experts_per_tok
    first = with_all(stats.structure.transitions, stats.by)  # [pairs, G, Bk, E, E]
    parts = _rows(sums, first, first.sum((-1, -2), keepdims=True), 1)
    if chosen > 1:
        every, choices = stats.structure.transitions_all, stats.structure.transition_choices
        parts += _rows(sums, with_all(every, stats.by), with_all(choices, stats.by), chosen)
    words = f"first choices of two layers; {sums.tokens_scope}; "
    keys = _pair_keys(stats, sums.keys())
    return tidy([*parts, _lookup(first, keys, words)], SPEC)


def _pair_keys(stats: RoutingStats, keys: dict[str, Any], tail: int = 0) -> dict[str, Any]:
    """Return the keys with the two layers of each pair, [pairs, 1] and `tail` further axes of length 1."""
    layer, following = np.array(stats.layer_pairs, int).reshape(-1, 2).T
    shape = (-1, 1, *(1,) * tail)
    return keys | {"layer": layer.reshape(shape), "other_layer": following.reshape(shape)}


def _rows(sums: GroupedSums, joint: Counts, numbers: Counts, ranks: int) -> list[pd.DataFrame]:
    """Return rows of first choices (ranks 1), or of all K; numbers [..., ranks, ranks] as `transition_choices`."""
    stats, tokens, experts = sums.stats, numbers.sum((-1, -2)), np.arange(sums.stats.num_experts)
    keys = _pair_keys(stats, sums.keys())
    cells = _pair_keys(stats, sums.keys(expert=experts, other_expert=experts), 2)
    choices, suffix = ("first choices", "") if ranks == 1 else ("all choices, weight 1/K^2,", _ALL)
    about, n = f"{choices} of two layers; {sums.tokens_scope}; ", tokens.sum(2)
    # Documents without an expert have 0 of a share of all tokens, and nothing of its own tokens.
    uses = joint.sum(-1, keepdims=True)
    rest_on = {"joint_share": tokens[..., None, None]}
    plan = [(part, cells, rest_on.get(part.metric, uses)) for part in _of_experts(joint, n, ranks, about)]
    plan += [(formula, keys, tokens) for formula in _of_layers(joint, numbers, n, about)]
    return [
        *(
            formula._replace(metric=formula.metric + suffix).rows(axes, sizes, folded=stats.folded)
            for formula, axes, sizes in plan
        ),
        _association(joint.sum(2), numbers.sum(2), about, keys, f"cramers_v{suffix}"),
    ]


def _of_experts(joint: Counts, tokens: Counts, ranks: int, about: str) -> list[BlockFormula]:
    total = joint.sum(2)
    whole, of_expert = total.sum((-1, -2), keepdims=True), total.sum(-1, keepdims=True)
    other_share = metrics.ratio(total.sum(-2, keepdims=True), whole)
    product = metrics.ratio(of_expert, whole) * other_share
    # A token that chose an expert is in its row once for each choice in the other layer.
    uses, n = of_expert // ranks, tokens[..., None, None]
    never = "the expert was never the first choice" if ranks == 1 else "the expert was never chosen"
    lift, counted = about + "joint share / product of the shares", joint.sum((-1, -2), keepdims=True) > 0
    return [
        formula._replace(events=joint)
        for formula in (
            BlockFormula("joint_share", _joint_share, (joint,), product, n, about + "share of tokens", "no tokens"),
            BlockFormula(
                "transition_probability", _probability, (joint,), other_share, uses, about + "of those of `expert`",
                never,
            ),
            BlockFormula("transition_lift", _lift, (joint,), 1.0, n, lift, never, POSITIVE, left_out=counted),
        )
    ]  # fmt: skip


def _of_layers(joint: Counts, numbers: Counts, n: Counts, about: str) -> list[BlockFormula]:
    def corrected(counts: Counts, numbers: Counts) -> Floats:
        return metrics.mutual_information_bits(counts) - bias_of(counts, numbers)

    def bias_of(counts: Counts, numbers: Counts) -> Floats:
        return metrics.mutual_information_bias(counts, exclusion=metrics.pair_exclusion(numbers, counts.shape[-1]))

    most, bias = float(np.log2(joint.shape[-1])), bias_of(joint.sum(2), numbers.sum(2))
    name, plugin, less = "mutual_information_bits", about + "plug-in; null: chance alone", about + "less chance"
    return [
        BlockFormula(name, metrics.mutual_information_bits, (joint,), bias, n, plugin, bounds=(0.0, most)),
        BlockFormula(f"{name}_corrected", corrected, (joint, numbers), 0.0, n, less, bounds=(-np.inf, most)),
    ]


def _association(total: Counts, numbers: Counts, about: str, keys: dict[str, Any], name: str) -> pd.DataFrame:
    """Return Cramér's V, which is not smooth and has no interval; total [..., E, E], numbers [..., ranks, ranks]."""
    v, n = metrics.cramers_v(total), numbers.sum((-1, -2))
    why = np.where(np.isnan(v), "not enough data: fewer than two experts", "no interval: not smooth")
    null = metrics.independent_cramers_v(total, exclusion=metrics.pair_exclusion(numbers, total.shape[-1]))
    return rows(keys, name, v, null=null, n=np.where(np.isnan(v), 0, n), scope=about + why.astype(object))


def _lookup(joint: Counts, keys: dict[str, Any], about: str) -> pd.DataFrame:
    """Return rows without an interval: documents share their guesses, so that one held the truth in 86 of 100 cases."""
    hits, base, counted = (part.sum(2) for part in metrics.lookup_hits(joint))
    null, n = metrics.ratio(base, counted), counted.astype(np.int64)
    words = f"{about}guessed from the other blocks of documents; null: the best guess without the first layer; "
    value = without_interval(metrics.ratio(hits, counted))
    scope = f"{words}no interval: documents share their guesses"
    return estimate_rows(keys, "lookup_accuracy", value, null, n, scope, "fewer than two documents")


def _joint_share(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum((-1, -2), keepdims=True))


def _probability(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum(-1, keepdims=True))


def _lift(joint: Counts) -> Floats:
    product = joint.sum(-1, keepdims=True).astype(np.float64) * joint.sum(-2, keepdims=True)
    return metrics.ratio(joint * joint.sum((-1, -2), keepdims=True).astype(np.float64), product)


_FIRST = {
    "joint_share": Metric(
        "share of tokens with first choice `expert`, and `other_expert` in the other layer; null: product of shares",
        "share of tokens",
        ".2%",
        SHARE,
        INDEPENDENT_LAYERS,
    ),
    "transition_probability": Metric(
        "of the tokens with first choice `expert`, those with `other_expert` in the other layer",
        "share of the expert's tokens",
        ".1%",
        SHARE,
        INDEPENDENT_LAYERS,
    ),
    "transition_lift": Metric(
        "joint share / product of the two experts' shares, 1 when independent",
        "lift",
        bounds=POSITIVE,
        null=INDEPENDENT_LAYERS,
    ),
    "mutual_information_bits": Metric(
        "bits one layer's first choice tells about the other's; null: chance alone, its bias",
        "information, bits",
        bounds=POSITIVE,
        null=CHANCE_ALONE,
    ),
    "mutual_information_bits_corrected": Metric(
        "the same less what chance alone shows", "information less chance, bits", null=NOTHING_TO_TELL
    ),
    "lookup_accuracy": Metric(
        "share of tokens whose first choice in the other layer is the one that follows theirs most often in other "
        "documents, or is the commonest there if theirs does not occur",
        "predicted from the layer before",
        ".1%",
        SHARE,
        "best single guess",
    ),
    "cramers_v": Metric(
        "Cramér's V of the two layers' first choices, in [0, 1]; no interval",
        "Cramér's V",
        bounds=SHARE,
        null=INDEPENDENT_LAYERS,
    ),
}
SPEC = TableSpec(
    function=transitions,
    source="stats",
    description="From a token's choices in one layer to those in another; rows without experts are about both layers.",
    keys=("layer", "other_layer", "group", "expert", "other_expert"),
    metrics=_FIRST
    | {
        f"{name}{_ALL}": replace(
            metric, meaning=f"{name} of every choice with every choice in the other layer, each with weight 1/K^2"
        )
        for name, metric in _FIRST.items()
        if name != "lookup_accuracy"
    },
    figures=(Drawing("transitions"),),
    narrows=True,
)
