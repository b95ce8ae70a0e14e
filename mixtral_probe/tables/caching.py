"""How often an expert would be in a cache of a few experts per layer: `cache_simulation`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.windows import Windows, ratio_rows
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
CACHE = {
    "hit_rate": "share of choices found in the cache, all of a token's looked up before any is loaded",
    "hit_rate_sequential": "share of choices found in the cache, looked up and loaded one after another",
}
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
    """Hit rates of a cache that holds some of each layer's experts while each window is read from its beginning.

    Columns: layer, group, policy, capacity, metric, value, low, high, null, n, scope. Rows without a layer are about
    all layers. A cache is empty where a window begins; `static` always holds the layer's most chosen experts.

    Args:
        trace: the trace.
        by: a label of the documents such as "domain"; adds rows for each of its values.
        capacities: experts of a layer that fit, from K to E; None for all of these but E.
        include_special: count special tokens too.
        most_tokens: from the beginning of the trace.

    Raises:
        InputError: a capacity that cannot be, or no such label.
    """
    sizes = _sizes(trace, capacities)
    windows = Windows.of(trace, by, include_special=include_special, most_tokens=most_tokens)
    ids = [np.asarray(trace.expert_ids[:, rows]) for rows in windows.rows]
    before, after = _hits(windows, ids, trace, sizes)  # [L, W, policy, C]
    choices = np.zeros((trace.num_layers, len(ids), 1, 1), np.int64)
    tokens = np.zeros_like(choices)
    for window, own in enumerate(ids):
        choices[:, window, 0, 0] = (own >= 0).sum((-1, -2))
        tokens[:, window, 0, 0] = (own[..., 0] >= 0).sum(-1)
    nulls = _nulls(windows, trace, sizes)  # [2, G, policy, C]
    keys = {"policy": np.array(metrics.POLICIES, dtype=object), "capacity": np.array(sizes)}
    scope = "null: uniform routing of windows as long (belady, static: of simulated ones)"
    below = np.broadcast_to(windows.summed(choices), windows.summed(before).shape)
    parts = [
        ratio_rows(
            windows, ("policy", "capacity"), name, (windows.summed(hits), below), null, windows.summed(tokens), scope,
            **keys,
        )
        for name, hits, null in zip(CACHE, (before, after), nulls, strict=True)
    ]  # fmt: skip
    return tidy(parts, ("layer", "group", "policy", "capacity"))


def _sizes(trace: Trace, capacities: Sequence[int] | None) -> tuple[int, ...]:
    chosen, experts = trace.num_experts_per_tok, trace.num_experts
    if capacities is None:
        return tuple(range(chosen, max(experts, chosen + 1)))
    sizes = tuple(sorted({int(size) for size in capacities}))
    if not sizes or not chosen <= sizes[0] <= sizes[-1] <= experts:
        raise InputError(f"a capacity must be between {chosen} and {experts} experts, but {list(capacities)} came")
    return sizes


def _hits(
    windows: Windows, ids: list[NDArray[np.int16]], trace: Trace, sizes: tuple[int, ...]
) -> tuple[Integers, Integers]:
    """[L, W, policy, C] hits, before and after; windows of like length are run together."""
    layers, experts = trace.num_layers, trace.num_experts
    found = np.zeros((2, layers, len(ids), len(metrics.POLICIES), len(sizes)), np.int64)
    scale = np.frexp(windows.lengths.astype(float))[1]
    for power in np.unique(scale):
        some = np.flatnonzero(scale == power)
        padded = np.full((layers, len(some), windows.lengths[some].max(), trace.num_experts_per_tok), -1)
        for place, number in enumerate(some):
            padded[:, place, : windows.lengths[number]] = ids[number]
        for rule, policy in enumerate(metrics.POLICIES[:3]):
            hits = metrics.cache_hits(padded.reshape(-1, *padded.shape[2:]), experts, sizes, policy)
            found[:, :, some, rule] = np.reshape(hits, (2, layers, len(some), len(sizes)))
    counts = np.zeros((layers, len(ids), experts), np.int64)
    for window, own in enumerate(ids):
        counts[:, window] = metrics.chosen_mask(own, experts).sum((1, 2))
    for layer, count in enumerate(counts):
        found[:, layer, :, 3] = metrics.static_cache_hits(count, sizes)
    return found[0], found[1]


def _nulls(windows: Windows, trace: Trace, sizes: tuple[int, ...]) -> Floats:
    """[2, G, policy, C] hit rates of uniform routing, before and after."""
    chosen, experts = trace.num_experts_per_tok, trace.num_experts
    out = np.full((2, len(windows.groups), len(metrics.POLICIES), len(sizes)), np.nan)
    for group in range(len(windows.groups)):
        mine = windows.group == group if group < windows.size[0] else np.ones(len(windows.rows), bool)
        lengths = windows.lengths[mine]
        if not len(lengths):
            continue
        steps = int(min(np.median(lengths), _DRAWN_STEPS))
        for place, size in enumerate(sizes):
            exact = metrics.uniform_cache_hit_rate(lengths, experts, chosen, size)
            for number, policy in enumerate(metrics.POLICIES):
                drawn = policy in _FORESIGHT
                out[:, group, number, place] = (
                    metrics.simulated_cache_hit_rate(steps, experts, chosen, size, policy) if drawn else exact
                )
    return out
