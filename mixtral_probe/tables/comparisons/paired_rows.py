"""Rows of what is counted from two traces of the same texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, SET_METRICS, PairedStats, with_all
from mixtral_probe.tables.leave_one_out import BlockFormula
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.trace import Trace

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
        paired: sums of the traces.
        metric_of: the metric of a table by the name of the quantity: one of `SET_METRICS`, or `first_agreement`.
        scope: which tokens are counted.
    """
    groups, parts = group_names(paired), []
    each = {"layer": np.array(paired.layers)[:, None], "group": groups}
    for name, metric in metric_of.items():
        parts.append(_rows(paired, name, metric, each, f"one layer; {scope}"))
        parts.append(_rows(paired, name, metric, {"layer": np.nan, "group": groups}, f"all layers; {scope}"))
    return parts


def _rows(
    paired: PairedStats, name: str, metric: str, keys: Mapping[str, NDArray[Any] | float], scope: str
) -> pd.DataFrame:
    """Return the rows of each layer, or of all layers together if the key `layer` is a single number."""
    tokens, sizes = with_all(paired.tokens, paired.by), with_all(paired.sizes, paired.by)
    alike = with_all(paired.same_first if name == "first_agreement" else paired.sums[name], paired.by)
    blocks, n, bottom = tokens, tokens.sum(-1), tokens
    if np.ndim(keys["layer"]) == 0:
        alike, bottom, sizes = (array.sum(0, keepdims=True) for array in (alike, bottom, sizes))
        # A token counts once, although every layer routes it.
        blocks, n = (array.max(0, keepdims=True) for array in (blocks, n))
    bounds = (0.0, 2.0 * sizes.shape[-1]) if name == "set_hamming" else SHARE
    null = _null(paired, name, sizes)
    formula = BlockFormula(metric, metrics.ratio, (alike, bottom), null, n, scope, bounds=bounds)
    return formula.rows(keys, blocks, folded=paired.folded)


def _null(paired: PairedStats, name: str, sizes: Counts) -> ArrayLike:
    """[..., G] what sets as large as those of the tokens give, drawn uniformly, from tokens by size [..., G, K, K]."""
    experts, chosen = paired.load.shape[-1], range(1, sizes.shape[-1] + 1)
    if name == "first_agreement":
        return 1 / experts
    means = np.array([[metrics.uniform_sets(SET_METRICS[name], experts, m, n) for n in chosen] for m in chosen])
    return (metrics.ratio(sizes, sizes.sum((-1, -2), keepdims=True)) * means).sum((-1, -2))
