"""What experts know about topics, words and places: `domain_specialization`, `mutual_information`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, TARGETS, RoutingStats, Sums, with_all
from mixtral_probe.tables.frame import VALUE_COLUMNS, View, estimate, estimate_rows, measure, rows, tidy, typed_frame
from mixtral_probe.tables.vocabulary import NO_IDS

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
DOMAIN = {
    "frequency_difference": "share of the group's tokens that chose the expert, less that of all tokens; 0 when alike",
    "frequency_log2_ratio": "log2 of the same two shares' ratio, half a token added to each count; 0 when alike",
}
INFORMATION = {
    "mutual_information_bits": "bits the variable tells about the expert, plug-in; null: chance alone, its bias",
    "mutual_information_bits_corrected": "the same less what chance alone shows; null 0",
    "mutual_information_share": "the corrected value / H(E), the entropy of the expert; null 0",
}
VARIABLES = {
    "domain": "group of the document",
    "position": "position in the window: 0, 1, 2-3, 4-7, …",
    "token": "token routed",
    "next token": "token that follows",
    "predicted token": "token the model expects next",
    "domain|token": "group, among tokens of one type: topic without lexicon",
}
_FEW = "not enough data: "
_NO_GROUPS = "statistics by a label of the documents are needed: RoutingStats.from_trace(trace, by=…)"
_OF_TARGET = {"input": "token", "next": "next token", "predicted": "predicted token"}


def domain_specialization(stats: RoutingStats) -> pd.DataFrame:
    """How much more or less each group uses an expert than all documents together do.

    Columns: layer, group, expert, metric, value, low, high, null, n, scope. The interval leaves out the group's own
    documents. Without groups the table is empty and `attrs["note"]` says why.
    """
    keys = ("layer", "group", "expert")
    if stats.by is None:
        empty = typed_frame(pd.DataFrame(columns=[*keys, *VALUE_COLUMNS]))
        empty.attrs["note"] = _FEW + _NO_GROUPS
        return empty
    view = View.of(stats)
    plan: dict[str, tuple[Callable[[Sums], Floats], float]] = {
        "frequency_difference": (_difference, 1.0),
        "frequency_log2_ratio": (_log_ratio, np.inf),
    }
    parts = []
    for name, (statistic, reach) in plan.items():
        found = measure(view, statistic, bounds=(-reach, reach))
        scope = f"one layer; {view.tokens_scope}; group against all"
        part = estimate_rows(view.keys(expert=np.arange(stats.num_experts)), name, found, 0.0, view.total.tokens, scope)
        parts.append(part[part["group"] != ALL])
    return tidy(parts, keys)


def _difference(sums: Sums) -> Floats:
    frequency = metrics.selection_frequency(sums.counts, sums.tokens)
    return frequency - frequency[:, -1:]


def _log_ratio(sums: Sums) -> Floats:
    frequency = metrics.selection_frequency(sums.counts + 0.5, np.where(sums.tokens > 0, sums.tokens + 1, 0))
    return np.log2(np.where(frequency > 0, frequency, np.nan)) - np.log2(frequency[:, -1:])


def mutual_information(stats: RoutingStats) -> pd.DataFrame:
    """What topic, position and token tell about the chosen expert, plug-in and less what chance adds.

    Columns: layer, group, variable, metric, value, low, high, null, n, scope. Each of a token's K experts counts 1/K.
    Topics are told apart in group "all" alone; their interval takes their shares of the tokens as given, as a corpus
    that was put together by topic has them, and needs two documents of each.
    """
    view = View.of(stats)
    parts = [*_of_position(view), *(part for target in TARGETS for part in _of_token(view, target))]
    if stats.by is not None:
        parts += [*_of_domain(view), *_of_domain_in_token(view)]
    return tidy(parts, ("layer", "group", "variable"))


def _of_position(view: View) -> list[pd.DataFrame]:
    joint = with_all(view.stats.structure.positions, view.stats.by)
    deleted = joint.sum(2, keepdims=True) - joint  # [L, G, Bk, P, E]
    return _with_intervals(view, "position", view.keys(), joint.sum(2), deleted, view.sizes)


def _of_domain(view: View) -> list[pd.DataFrame]:
    """The groups' shares of tokens are held fixed, as the corpus has them, while a group's documents are left out."""
    counts = view.stats.sums.counts  # [L, G, Bk, E]
    joint, blocks = counts.sum(2), counts.shape[2]
    deleted = joint[:, :, None] - counts
    kept = metrics.ratio(deleted * joint.sum(-1)[..., None, None], deleted.sum(-1, keepdims=True))
    left = np.broadcast_to(joint[:, None, None], (*counts.shape[:3], *joint.shape[1:])).astype(np.float64)
    for group in range(counts.shape[1]):
        left[:, group, :, group] = kept[:, group]
    left = left.reshape(len(joint), 1, -1, *joint.shape[1:])  # [L, 1, G Bk, G, E]
    sizes = view.stats.sums.tokens.reshape(len(joint), 1, -1)
    strata = np.repeat(np.arange(counts.shape[1]), blocks)
    return _with_intervals(view, "domain", view.keys() | {"group": ALL}, joint[:, None], left, sizes, strata)


def _with_intervals(
    view: View,
    variable: str,
    keys: dict[str, Any],
    joint: Counts,
    deleted: NDArray[Any],
    sizes: Counts,
    strata: NDArray[np.intp] | None = None,
) -> list[pd.DataFrame]:
    """Rows of counts [L, G, R, E], and [L, G, Bk, R, E] with one block left out."""
    chosen, bits = view.stats.num_experts_per_tok, float(np.log2(view.stats.num_experts))
    limits = {"mutual_information_bits": (0.0, bits)}
    tokens = np.broadcast_to(sizes.sum(-1), joint.shape[:2])
    parts = []
    for name, formula in _FORMULAS.items():
        bounds = limits.get(name, (-np.inf, bits))
        found = estimate(formula(joint, chosen), formula(deleted, chosen), sizes, view.stats.folded, bounds, strata)
        n = np.where(np.isnan(found.value), 0, tokens)
        null = metrics.mutual_information_bias(joint, chosen=chosen) if name in limits else 0.0
        own = keys | {"variable": variable}
        parts.append(estimate_rows(own, name, found, null, n, _about(view, variable), "no tokens"))
    return parts


def _plugin(joint: Counts, chosen: int) -> Floats:
    return metrics.mutual_information_bits(joint)


def _corrected(joint: Counts, chosen: int) -> Floats:
    return metrics.mutual_information_bits(joint) - metrics.mutual_information_bias(joint, chosen=chosen)


def _share(joint: Counts, chosen: int) -> Floats:
    return _of_entropy(_corrected(joint, chosen), joint.sum(-2))


def _of_entropy(bits: Floats, load: Counts) -> Floats:
    """[...] bits / H(E) of loads [..., E]; 0 where only one expert was ever chosen and so nothing can be told."""
    entropy = np.log2(metrics.effective_experts(load))
    return np.where(entropy == 0, 0.0, metrics.ratio(bits, entropy))


_FORMULAS: dict[str, Callable[[Counts, int], Floats]] = {
    "mutual_information_bits": _plugin,
    "mutual_information_bits_corrected": _corrected,
    "mutual_information_share": _share,
}


def _about(view: View, variable: str) -> str:
    return f"one layer; {view.tokens_scope}; {VARIABLES[variable]}; each choice of a token counts 1/K"


def _of_token(view: View, target: str) -> list[pd.DataFrame]:
    numbers = [None if name == ALL else number for number, name in enumerate(view.groups)]
    joint = [view.stats.affinity.select(target, number)[1].sum(1) for number in numbers]  # each [L, V, E]
    bits = np.stack([metrics.mutual_information_bits(counts) for counts in joint], axis=1)
    chosen = view.stats.num_experts_per_tok
    bias = np.stack([metrics.mutual_information_bias(counts, chosen=chosen) for counts in joint], axis=1)
    load = np.stack([counts.sum(1) for counts in joint], axis=1)
    return _without_intervals(view, _OF_TARGET[target], view.keys(), bits, bias, load, NO_IDS[target])


def _of_domain_in_token(view: View) -> list[pd.DataFrame]:
    own = [view.stats.affinity.select("input", number) for number in range(len(view.stats.groups))]
    types = np.unique(np.concatenate([found for found, _ in own]))
    layers, chosen = len(view.stats.layers), view.stats.num_experts_per_tok
    bits, bias, load = np.zeros((layers, 1)), np.zeros((layers, 1)), np.zeros((layers, 1, view.stats.num_experts))
    for layer in range(layers):  # one at a time: tokens x groups x experts may be many
        joint = np.zeros((len(types), len(own), view.stats.num_experts), np.int64)
        for number, (found, counts) in enumerate(own):
            joint[np.searchsorted(types, found), number] = counts[layer].sum(0)
        bits[layer] = metrics.conditional_mutual_information_bits(joint)
        bias[layer] = metrics.conditional_mutual_information_bias(joint, chosen=chosen)
        load[layer] = joint.sum((0, 1))
    return _without_intervals(view, "domain|token", view.keys() | {"group": ALL}, bits, bias, load, NO_IDS["input"])


def _without_intervals(
    view: View, variable: str, keys: dict[str, Any], bits: Floats, bias: Floats, load: NDArray[Any], missing: str
) -> list[pd.DataFrame]:
    """Rows of what is known per half of the documents only; bits and bias [L, G], load [L, G, E]."""
    n = load.sum(-1) // view.stats.num_experts_per_tok
    about = _about(view, variable)
    rare = "no interval: most types are too rare for one to hold"
    scope = np.where(n > 0, f"{about}; {rare}", f"{about}; {_FEW}{missing}")
    less = bits - bias
    values = (bits, bias), (less, np.zeros(1)), (_of_entropy(less, load), np.zeros(1))
    return [
        rows(keys | {"variable": variable}, name, np.where(n > 0, value, np.nan), null=null, n=n, scope=scope)
        for name, (value, null) in zip(INFORMATION, values, strict=True)
    ]
