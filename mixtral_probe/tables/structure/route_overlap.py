"""How many experts two tokens have in common: `route_overlap`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import rows, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import POSITIVE, SHARE, UNIFORM
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
_ONE_PAIR = "one pair of tokens: no interval; one layer"


@of_trace
def route_overlap(trace: Trace, a: int, b: int) -> pd.DataFrame:
    """Return the experts that two tokens have in common, in every layer and over all layers together.

    Columns: layer (empty: all layers in which both went to experts), metric, value, corrected, low, high, null, n,
    scope. The null is what two tokens share on average that choose as many experts, uniformly and independently. A
    layer in which one of them went to no expert has no value.

    Args:
        trace: the trace.
        a: row of one token in `trace.tokens`.
        b: row of the second.

    Raises:
        InputError: a row does not exist.
    """
    for row in (a, b):
        if not 0 <= row < trace.num_tokens:
            raise InputError(
                f"row must be in 0–{trace.num_tokens - 1} (there are {trace.num_tokens} tokens), got {row}"
            )
    sets = [[set(ids[ids >= 0].tolist()) for ids in both] for both in _choices(trace, a, b)]
    numbers = [_layer(first, second, trace.num_experts) for first, second in sets]
    pairs = np.array(numbers)  # [L, shared, null, Jaccard, null]
    routed = ~np.isnan(pairs[:, 0])
    layer = np.array(trace.layers, dtype=object)
    parts = []
    for name, (value, null), how in zip(SPEC.metrics, (pairs.T[:2], pairs.T[2:]), ("sum", "mean"), strict=True):
        n = np.where(routed, 2, 0)
        scope = np.where(routed, _ONE_PAIR, f"{_ONE_PAIR}; not enough data: one went to no expert")
        parts.append(rows({"layer": layer}, name, value, null=null, n=n, scope=scope))
        parts.append(_all_layers(name, value[routed], null[routed], how))
    return tidy(parts, SPEC)


def _choices(trace: Trace, a: int, b: int) -> NDArray[np.int64]:
    """[L, 2, K] experts of both tokens, below 0 where a token has fewer."""
    return np.stack([np.asarray(trace.expert_ids[:, row], np.int64) for row in (a, b)], axis=1)


def _layer(first: set[int], second: set[int], experts: int) -> tuple[float, float, float, float]:
    """Return shared experts and their null, Jaccard and its null; NaN where one set is empty."""
    if not first or not second:
        return (np.nan,) * 4
    shared, jaccard = len(first & second), len(first & second) / len(first | second)
    sizes = len(first), len(second)
    return shared, sizes[0] * sizes[1] / experts, jaccard, metrics.uniform_sets(metrics.set_jaccard, experts, *sizes)


def _all_layers(name: str, value: Floats, null: Floats, how: str) -> pd.DataFrame:
    """Return the row of all layers in which both tokens went to experts."""
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
