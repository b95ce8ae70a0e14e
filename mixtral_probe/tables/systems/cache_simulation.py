"""How often an expert would be in a cache of a few experts per layer: `cache_simulation`."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import SHARE, UNIFORM
from mixtral_probe.tables.spec import VALUES_SAME_LOAD, Drawing, Metric, TableSpec
from mixtral_probe.tables.systems.windows import WindowRatio, Windows, mean_over_layers, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.intp]
Ids = NDArray[np.int16]
MOST_TOKENS = 50_000
_DRAWN_STEPS = 256
_FORESIGHT = ("belady", "static")
_STATIC = metrics.POLICIES.index("static")
_SCOPE = (
    "null: uniform routing of windows as long (belady, static: of simulated ones); null_same_load: tokens exchanged "
    f"among the windows, {metrics.EXCHANGES} windows drawn or more (static: exact)"
)


@of_trace
def cache_simulation(
    trace: Trace,
    *,
    by: str | None = None,
    capacities: Sequence[int] | None = None,
    include_special: bool = False,
    most_tokens: int = MOST_TOKENS,
) -> pd.DataFrame:
    """Return hit rates of a cache that holds some of each layer's experts, while each window is read from its start.

    Columns: layer, group, policy, capacity, metric, value, corrected, low, high, null, null_same_load, n, scope. Rows
    without a layer are about all layers. A cache is empty where a window begins; `static` always holds the layer's most
    chosen experts.

    Each policy has two nulls of its own. `null` is uniform routing. For `null_same_load` the windows of a layer and
    group exchange their tokens, so that every expert and every set of experts is chosen as often as it was: 20 windows
    or more are drawn without replacement. From the first null to the second is what uneven loads give, from the second
    to the value what tokens give by resembling their neighbours and their document. The loads settle what `static`
    hits, so its second null is its value.

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
    choices = windows.summed(_counts(trace, [_choices(window) for window in ids]))
    tokens = windows.summed(_counts(trace, [(window[..., 0] >= 0).sum(-1) for window in ids]))
    axes = {"policy": np.array(metrics.POLICIES, dtype=object), "capacity": np.array(sizes)}
    rates = _hits(windows, ids, trace, sizes), _nulls(windows, trace, sizes), _exchanged(windows, ids, trace, sizes)
    parts = []
    for name, hits, null, same_load in zip(SPEC.metrics, *rates, strict=True):
        ratio = _ratio(name, windows.summed(hits), choices, tokens, null, same_load)
        parts.append(ratio_rows(windows, ratio, axes))
    return tidy(parts, SPEC)


def _ratio(
    name: str, hits: Integers, choices: Integers, tokens: Integers, null: Floats, same_load: Floats
) -> WindowRatio:
    """Return a hit rate of sums [L, G, Bk, policy or 1, C or 1] and its nulls [1 or L, G, policy, C]."""
    below = np.broadcast_to(choices, hits.shape)
    same_load[:, :, _STATIC] = metrics.ratio(hits.sum(2), below.sum(2))[:, :, _STATIC]
    of_all, same_of_all = (mean_over_layers(rates, choices.sum(2)) for rates in (null, same_load))
    return WindowRatio(name, hits, below, tokens, null, of_all, _SCOPE, (same_load, same_of_all))


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


def _hits(windows: Windows, ids: Sequence[Ids], trace: Trace, sizes: tuple[int, ...]) -> Integers:
    """[2, L, W, policy, C] hits, before and after."""
    hits = np.zeros((2, trace.num_layers, len(ids), len(metrics.POLICIES), len(sizes)), np.int64)
    for window, found in enumerate(_simulated(ids, trace.num_experts, sizes)):
        hits[:, :, window, :_STATIC] = found
    for layer, count in enumerate(windows.counts(trace)):
        hits[:, layer, :, _STATIC] = metrics.static_cache_hits(count, sizes)
    return hits


def _exchanged(windows: Windows, ids: Sequence[Ids], trace: Trace, sizes: tuple[int, ...]) -> Floats:
    """[2, L, G, policy, C] hit rates where windows of a group exchange their tokens, before and after; NaN: static."""
    rates = np.full((2, trace.num_layers, len(windows.groups), len(metrics.POLICIES), len(sizes)), np.nan)
    cells = [*_drawn(windows, ids)]
    found = iter(_simulated([window for _, _, drawn in cells for window in drawn], trace.num_experts, sizes))
    for layers, group, drawn in cells:
        shares = [metrics.ratio(next(found), _choices(window)[:, None, None]) for window in drawn]
        rates[:, layers, group, :_STATIC] = np.mean(shares, axis=0)
    return rates


def _drawn(windows: Windows, ids: Sequence[Ids]) -> Iterator[tuple[Places, int, list[Ids]]]:
    """Yield layers and a group, with windows [layers, S, K] drawn from the tokens of the group's windows there."""
    for group in range(len(windows.groups)):
        of_group = [ids[window] for window in np.flatnonzero(windows.of_group(group)).tolist()]
        for layers, lengths in windows.layer_lengths(group):
            tokens = np.concatenate(of_group, axis=1)[layers]
            if len(windows.lengths) > 1:
                tokens = tokens[:, tokens[0, :, 0] >= 0]
            yield layers, group, [tokens[:, places] for places in metrics.exchanged_windows(lengths.tolist())]


def _choices(ids: Ids) -> Integers:
    """[L] choices of a window [L, S, K]."""
    return (ids >= 0).sum((-1, -2))


def _simulated(windows: Sequence[Ids], experts: int, sizes: tuple[int, ...]) -> list[Integers]:
    """[2, M, policy, C] hits of all policies but `static` in each [M, S, K]; those of like length are run together."""
    hits, scales = [np.zeros(0, np.int64)] * len(windows), np.frexp([float(part.shape[1]) for part in windows])[1]
    for scale in np.unique(scales):
        alike = np.flatnonzero(scales == scale).tolist()
        parts = [windows[number] for number in alike]
        longest = max(part.shape[1] for part in parts)
        ends = [((0, 0), (0, longest - part.shape[1]), (0, 0)) for part in parts]
        padded = np.concatenate([np.pad(part, end, constant_values=-1) for part, end in zip(parts, ends, strict=True)])
        rules = [metrics.cache_hits(padded, experts, sizes, policy) for policy in metrics.POLICIES[:_STATIC]]
        bounds = np.cumsum([len(part) for part in parts])[:-1]
        for number, found in zip(alike, np.split(np.stack(rules, axis=2), bounds, axis=1), strict=True):
            hits[number] = found
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
    values=VALUES_SAME_LOAD,
)
