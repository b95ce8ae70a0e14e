"""How often an expert would be in a cache of a few experts per layer: `cache_simulation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.phrases import SHARE, UNIFORM
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.systems.windows import WindowRatio, Windows, mean_over_layers, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_TOKENS = 50_000
_DRAWN_STEPS = 256
_FORESIGHT = ("belady", "static")


def cache_simulation(
    trace: Trace,
    *,
    by: str | None = None,
    capacities: Sequence[int] | None = None,
    include_special: bool = False,
    most_tokens: int = MOST_TOKENS,
) -> pd.DataFrame:
    """Return hit rates of a cache that holds some of each layer's experts, while each window is read from its start.

    Columns: layer, group, policy, capacity, metric, value, corrected, low, high, null, n, scope. Rows without a layer
    are about all layers. A cache is empty where a window begins; `static` always holds the layer's most chosen experts.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        capacities: experts of a layer that fit, from K to E; None for K to E - 1.
        include_special: count special tokens too.
        most_tokens: read at most so many, from the beginning of the trace.

    Raises:
        InputError: a capacity outside K to E, or an unknown label.
    """
    sizes = _sizes(trace, capacities)
    windows = Windows.of(trace, by, include_special=include_special, most_tokens=most_tokens)
    ids = [np.asarray(trace.expert_ids[:, rows]) for rows in windows.rows]
    choices = windows.summed(_counts(trace, [(window >= 0).sum((-1, -2)) for window in ids]))
    tokens = windows.summed(_counts(trace, [(window[..., 0] >= 0).sum(-1) for window in ids]))
    axes = {"policy": np.array(metrics.POLICIES, dtype=object), "capacity": np.array(sizes)}
    scope = "null: uniform routing of windows as long (belady, static: of simulated ones)"
    parts = []
    for name, hits, null in zip(
        SPEC.metrics, _hits(ids, trace, sizes), _nulls(windows, trace, sizes), strict=True
    ):  # [L, W, policy, C], [1 or L, G, policy, C]
        top = windows.summed(hits)
        below, of_all = np.broadcast_to(choices, top.shape), mean_over_layers(null, choices.sum(2))
        parts.append(ratio_rows(windows, WindowRatio(name, top, below, tokens, null, of_all, scope), axes))
    return tidy(parts, SPEC)


def _sizes(trace: Trace, capacities: Sequence[int] | None) -> tuple[int, ...]:
    chosen, experts = trace.num_experts_per_tok, trace.num_experts
    if capacities is None:
        return tuple(range(chosen, max(experts, chosen + 1)))
    sizes = tuple(sorted({int(size) for size in capacities}))
    if not sizes or not chosen <= sizes[0] <= sizes[-1] <= experts:
        raise InputError(f"a capacity must be between {chosen} and {experts} experts, got {list(capacities)}")
    return sizes


def _counts(trace: Trace, by_window: list[Integers]) -> Integers:
    """[L, W, 1, 1] counts of windows, [L] each."""
    return np.array(by_window, np.int64).reshape(len(by_window), trace.num_layers).T[..., None, None]


def _hits(ids: list[NDArray[np.int16]], trace: Trace, sizes: tuple[int, ...]) -> Integers:
    """[2, L, W, policy, C] hits, before and after; windows of like length are run together."""
    layers, experts = trace.num_layers, trace.num_experts
    lengths = np.array([window.shape[1] for window in ids], np.int64)
    hits = np.zeros((2, layers, len(ids), len(metrics.POLICIES), len(sizes)), np.int64)
    scale = np.frexp(lengths.astype(float))[1]
    for power in np.unique(scale):
        alike = np.flatnonzero(scale == power)
        padded = np.full((layers, len(alike), lengths[alike].max(), trace.num_experts_per_tok), -1)
        for place, number in enumerate(alike):
            padded[:, place, : lengths[number]] = ids[number]
        for rule, policy in enumerate(metrics.POLICIES[:3]):
            both = metrics.cache_hits(padded.reshape(-1, *padded.shape[2:]), experts, sizes, policy)
            hits[:, :, alike, rule] = np.reshape(both, (2, layers, len(alike), len(sizes)))
    counts = np.zeros((layers, len(ids), experts), np.int64)
    for at, window in enumerate(ids):
        counts[:, at] = metrics.chosen_mask(window, experts).sum((1, 2))
    for layer, count in enumerate(counts):
        hits[:, layer, :, 3] = metrics.static_cache_hits(count, sizes)
    return hits


def _nulls(windows: Windows, trace: Trace, sizes: tuple[int, ...]) -> Floats:
    """[2, 1 or L, G, policy, C] hit rates of uniform routing, before and after; NaN without tokens."""
    cells = [
        (layer, group, lengths[lengths > 0])
        for group in range(len(windows.groups))
        for layer, lengths in enumerate(windows.lengths[:, windows.of_group(group)])
    ]
    shape = (2, len(windows.lengths), len(windows.groups), len(metrics.POLICIES), len(sizes))
    nulls = np.full(shape, np.nan)
    # Layers and groups innermost: those with windows of one length share what is simulated for it.
    for place, size in enumerate(sizes):
        for number, policy in enumerate(metrics.POLICIES):
            for layer, group, lengths in cells:
                if len(lengths):
                    nulls[:, layer, group, number, place] = _null(lengths, trace, size, policy)
    return nulls


def _null(lengths: Integers, trace: Trace, capacity: int, policy: str) -> tuple[float, float]:
    """Return hit rates of uniform routing of windows of these lengths, before and after."""
    shape = (trace.num_experts, trace.num_experts_per_tok, capacity)
    if policy not in _FORESIGHT:
        return metrics.uniform_cache_hit_rate(lengths.tolist(), *shape)
    return metrics.simulated_cache_hit_rate(int(min(np.median(lengths), _DRAWN_STEPS)), *shape, policy)


SPEC = TableSpec(
    function=cache_simulation,
    source="trace",
    description="How often an expert would be in a cache of a few experts per layer; windows begin with an empty one.",
    keys=("layer", "group", "policy", "capacity"),
    metrics={
        "hit_rate": Metric(
            "share of choices found in the cache, all of a token's looked up before any is loaded",
            "hit rate",
            ".1%",
            SHARE,
            UNIFORM,
        ),
        "hit_rate_sequential": Metric(
            "share of choices found in the cache, looked up and loaded one after another",
            "hit rate, one after another",
            ".1%",
            SHARE,
            UNIFORM,
        ),
    },
    figures=(Drawing("cache_simulation"),),
    narrows=True,
)
