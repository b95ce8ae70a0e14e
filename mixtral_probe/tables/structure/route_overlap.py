"""How many experts two tokens have in common: `route_overlap`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.phrases import POSITIVE, SHARE, UNIFORM
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
_ONE = "one pair of tokens: no interval; one layer"


def route_overlap(trace: Trace, a: int, b: int) -> pd.DataFrame:
    """Return the experts that two tokens have in common, in every layer and over all layers together.

    Columns: layer (empty: all layers in which both went to experts), metric, value, corrected, low, high, null, n,
    scope. The null is what two tokens share on average that choose as many experts each uniformly and apart from each
    other. A layer in which one of them went to no expert has no value.

    Args:
        trace: the trace.
        a: row of one token in `trace.tokens`.
        b: row of the other.

    Raises:
        InputError: there is no such row.
    """
    for row in (a, b):
        if not 0 <= row < trace.num_tokens:
            raise InputError(
                f"row must be in 0–{trace.num_tokens - 1} (there are {trace.num_tokens} tokens), got {row}"
            )
    sets = [(set(own[own >= 0].tolist()), set(other[other >= 0].tolist())) for own, other in _choices(trace, a, b)]
    pairs = np.array([_layer(own, other, trace.num_experts) for own, other in sets])  # [L, shared, null, Jaccard, null]
    whole = ~np.isnan(pairs[:, 0])
    layer = np.array(trace.layers, dtype=object)
    parts = []
    for name, (value, null), how in zip(SPEC.metrics, (pairs.T[:2], pairs.T[2:]), ("sum", "mean"), strict=True):
        n, scope = np.where(whole, 2, 0), np.where(whole, _ONE, _ONE + "; not enough data: one went to no expert")
        parts.append(rows({"layer": layer}, name, value, null=null, n=n, scope=scope))
        parts.append(_all_layers(name, value[whole], null[whole], how))
    return tidy(parts, SPEC)


def _choices(trace: Trace, a: int, b: int) -> NDArray[np.int64]:
    """[L, 2, K] experts of both tokens, below 0 where there is none."""
    return np.stack([np.asarray(trace.expert_ids[:, row], np.int64) for row in (a, b)], axis=1)


def _layer(own: set[int], other: set[int], experts: int) -> tuple[float, float, float, float]:
    """Shared experts and their null, Jaccard and its null; NaN where one set is empty."""
    if not own or not other:
        return (np.nan,) * 4
    shared, jaccard = len(own & other), len(own & other) / len(own | other)
    return shared, len(own) * len(other) / experts, jaccard, metrics.uniform_jaccard(experts, len(own), len(other))


def _all_layers(name: str, value: Floats, null: Floats, how: str) -> pd.DataFrame:
    """The row of all layers in which both tokens went to experts."""
    if not len(value):
        scope = "one pair of tokens: no interval; not enough data: no layer in which both went to experts"
        return rows({"layer": pd.NA}, name, np.nan, null=np.nan, n=0, scope=scope)
    total, chance = ((part.sum() if how == "sum" else part.mean()) for part in (value, null))
    scope = f"one pair of tokens: no interval; {how} of {len(value)} layer{'s' * (len(value) != 1)}"
    return rows({"layer": pd.NA}, name, total, null=chance, n=2, scope=scope)


SPEC = TableSpec(
    function=route_overlap,
    source="part",
    description="How many experts two tokens have in common.",
    keys=("layer",),
    metrics={
        "shared_experts": Metric(
            "experts that both tokens chose; over all layers their sum; null: K^2 / E per layer",
            "experts in common",
            bounds=POSITIVE,
            null=UNIFORM,
        ),
        "set_jaccard": Metric(
            "experts of both / experts of either; over all layers the layers' mean; null: uniform top-K routing",
            "of both / of either",
            bounds=SHARE,
            null=UNIFORM,
        ),
    },
    figures=(),
    narrows=True,
)
