"""Rows of what is counted from two traces of the same texts."""

from collections.abc import Callable, Mapping
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, PairedStats, with_all
from mixtral_probe.tables.leave_one_out import BlockFormula
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def pair_scope(a: Trace, b: Trace, include_special: bool) -> str:
    """Say which tokens are counted: those that are selected in both traces."""
    scope = tokens_scope(a, include_special)
    return scope if b.where in (None, a.where) else f"{scope}; where {b.where}"


def group_names(paired: PairedStats) -> NDArray[np.object_]:
    """[G] the groups, then "all"."""
    return np.array(paired.groups if paired.by is None else [*paired.groups, ALL], dtype=object)


def common_rows(paired: PairedStats, metric_of: Mapping[str, str], scope: str) -> list[pd.DataFrame]:
    """Return rows of what two traces have in common, by layer and over all layers.

    Agreement may be added over layers; experts may not.

    Args:
        paired: counts of the traces.
        metric_of: the metric of a table by the formula of `COMMON` that it is.
        scope: which tokens are counted.
    """
    common = with_all(paired.common, paired.by)  # [L, G, Bk, 2, K + 1]
    tokens, groups = common.sum((-1, -2)), group_names(paired)
    layer = {"layer": np.array(paired.layers)[:, None], "group": groups}
    layers = {"layer": np.nan, "group": groups}
    every, most = common.sum(0, keepdims=True), tokens.max(0, keepdims=True)
    parts = []
    for name, metric in metric_of.items():
        parts.append(_rows(paired, name, metric, common, tokens, layer, f"one layer; {scope}"))
        parts.append(_rows(paired, name, metric, every, most, layers, f"all layers; {scope}"))
    return parts


def _rows(
    paired: PairedStats, name: str, metric: str, common: Counts, tokens: Counts, keys: Mapping[str, object], scope: str
) -> pd.DataFrame:
    experts, chosen = paired.load.shape[-1], common.shape[-1] - 1
    bounds = (0.0, 2.0 * chosen) if name == "set_hamming" else SHARE
    formula = BlockFormula(
        metric, COMMON[name], (common,), _null(name, experts, chosen), tokens.sum(-1), scope, bounds=bounds
    )
    return formula.rows(keys, tokens, folded=paired.folded)


def _same_set(common: Counts) -> Floats:
    return metrics.ratio(common[..., -1].sum(-1), common.sum((-1, -2)))


COMMON: dict[str, Callable[[Counts], Floats]] = {
    "set_overlap": metrics.overlap,
    "first_agreement": metrics.repetition_first,
    "same_set": _same_set,
    "set_jaccard": metrics.set_jaccard,
    "set_hamming": metrics.set_hamming,
}
"""Formulas of tokens [..., 2, K + 1] by whether first choices agree and how many experts are common."""


def _null(name: str, experts: int, chosen: int) -> float:
    """Return what uniform top-K routing gives."""
    chance = metrics.uniform_repetition(experts, chosen)
    return {
        "set_overlap": chance["overlap"],
        "first_agreement": chance["repetition_first"],
        "same_set": 1 / comb(experts, chosen),
        "set_jaccard": metrics.uniform_jaccard(experts, chosen),
        "set_hamming": 2 * chosen * (1 - chance["overlap"]),
    }[name]
