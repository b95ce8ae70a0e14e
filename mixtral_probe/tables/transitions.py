"""From layer to layer: `transitions`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.counted import Counted
from mixtral_probe.tables.frame import View, rows, tidy

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_FIRST = {
    "joint_share": "share of tokens with first choice `expert` here and `other_expert` there; null: product of shares",
    "transition_probability": "of the tokens with first choice `expert` here, those with `other_expert` there",
    "transition_lift": "joint share / product of the two experts' shares, 1 when independent",
    "mutual_information_bits": "bits one layer's first choice tells about the other's; null: chance alone, its bias",
    "mutual_information_bits_corrected": "the same less what chance alone shows",
    "lookup_accuracy": "share of tokens whose first choice there follows that here most often in other documents",
    "cramers_v": "Cramér's V of the two layers' first choices, in [0, 1]; no interval",
}
_ALL = "_all_choices"
TRANSITIONS = _FIRST | {
    f"{name}{_ALL}": f"{name} of every choice here with every choice there, each with weight 1/K^2"
    for name in _FIRST
    if name != "lookup_accuracy"
}
KEYS = ("layer", "other_layer", "group", "expert", "other_expert")


def transitions(stats: RoutingStats) -> pd.DataFrame:
    """From a token's choices in one layer to those in another: in the next, and in what was asked for.

    Columns: layer, other_layer, group, expert, other_expert, metric, value, low, high, null, n, scope. Rows without
    experts are about the two layers as wholes. Metrics are about first choices; those that end in `_all_choices` take
    each of a token's K experts with each of its K there, and are left out where K is 1.
    """
    view, experts = View.of(stats), np.arange(stats.num_experts)
    here, there = np.array(stats.layer_pairs, int).reshape(-1, 2).T
    keys = view.keys() | {"layer": here.reshape(-1, 1), "other_layer": there.reshape(-1, 1)}
    cells = view.keys(expert=experts, other_expert=experts)
    cells |= {name: keys[name].reshape(-1, 1, 1, 1) for name in ("layer", "other_layer")}
    first = with_all(stats.structure.transitions, stats.by)  # [pairs, G, Bk, E, E]
    every, chosen = with_all(stats.structure.transitions_all, stats.by), stats.num_experts_per_tok
    tokens, parts = first.sum((-1, -2)), []
    for joint, ranks in [(first, 1)] + [(every, chosen)] * (chosen > 1):
        about = (
            "first choices" if ranks == 1 else "all choices, weight 1/K^2,"
        ) + f" of two layers; {view.tokens_scope}; "
        suffix = "" if ranks == 1 else _ALL
        for made in _of_experts(joint, tokens.sum(2), ranks, about):
            parts.append(made._replace(name=made.name + suffix).rows(cells, tokens[..., None, None], stats.folded))
        for made in _of_layers(joint, tokens.sum(2), ranks, about):
            parts.append(made._replace(name=made.name + suffix).rows(keys, tokens, stats.folded))
        parts.append(_association(joint.sum(2), tokens.sum(2), ranks, about, keys, f"cramers_v{suffix}"))
    words = f"first choices of two layers; {view.tokens_scope}; "
    return tidy([*parts, _lookup(first, words).rows(keys, tokens, stats.folded)], KEYS)


def _of_experts(joint: Counts, tokens: Counts, ranks: int, about: str) -> list[Counted]:
    total = joint.sum(2)
    whole, here = total.sum((-1, -2), keepdims=True), total.sum(-1, keepdims=True)
    there = metrics.ratio(total.sum(-2, keepdims=True), whole)
    product = metrics.ratio(here, whole) * there
    # A token that chose an expert is in its row once for each choice in the other layer.
    own, n = here // ranks, tokens[..., None, None]
    never = "the expert was never the first choice" if ranks == 1 else "the expert was never chosen"
    lift = about + "joint share / product of the shares"
    return [
        Counted("joint_share", _joint_share, (joint,), product, n, about + "share of tokens", "no tokens"),
        Counted("transition_probability", _probability, (joint,), there, own, about + "of those of `expert`", never),
        Counted("transition_lift", _lift, (joint,), 1.0, n, lift, never, np.inf),
    ]


def _of_layers(joint: Counts, n: Counts, ranks: int, about: str) -> list[Counted]:
    def corrected(counts: Counts) -> Floats:
        return metrics.mutual_information_bits(counts) - bias_of(counts)

    def bias_of(counts: Counts) -> Floats:
        return metrics.mutual_information_bias(counts, chosen=ranks, chosen_rows=ranks)

    most, bias = float(np.log2(joint.shape[-1])), bias_of(joint.sum(2))
    name, plugin, less = "mutual_information_bits", about + "plug-in; null: chance alone", about + "less chance"
    return [
        Counted(name, metrics.mutual_information_bits, (joint,), bias, n, plugin, "no tokens", most),
        Counted(f"{name}_corrected", corrected, (joint,), 0.0, n, less, "no tokens", most, -np.inf),
    ]


def _association(total: Counts, n: Counts, ranks: int, about: str, keys: dict[str, Any], name: str) -> pd.DataFrame:
    """Cramér's V, which is not smooth and has no interval."""
    v = metrics.cramers_v(total)
    why = np.where(np.isnan(v), "not enough data: fewer than two experts", "no interval: not smooth")
    null = metrics.independent_cramers_v(total, chosen=ranks, chosen_rows=ranks)
    return rows(keys, name, v, null=null, n=np.where(np.isnan(v), 0, n), scope=about + why.astype(object))


def _lookup(joint: Counts, about: str) -> Counted:
    hits, base, counted = metrics.lookup_hits(joint)
    null = metrics.ratio(base.sum(2), counted.sum(2))
    words = about + "guessed from the other blocks of documents; null: the best guess without the first layer"
    n = counted.sum(2).astype(np.int64)
    return Counted("lookup_accuracy", metrics.ratio, (hits, counted), null, n, words, "fewer than two documents")


def _joint_share(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum((-1, -2), keepdims=True))


def _probability(joint: Counts) -> Floats:
    return metrics.ratio(joint, joint.sum(-1, keepdims=True))


def _lift(joint: Counts) -> Floats:
    product = joint.sum(-1, keepdims=True).astype(np.float64) * joint.sum(-2, keepdims=True)
    return metrics.ratio(joint * joint.sum((-1, -2), keepdims=True).astype(np.float64), product)
