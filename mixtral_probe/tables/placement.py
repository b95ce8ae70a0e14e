"""How unevenly expert parallelism would load its devices: `placement_simulation`."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.metrics import eplb_placement, rank_imbalance, rank_load
from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.frame import View, estimate_rows, measure, missing_rows, rows, tidy
from mixtral_probe.tables.load import NO_LOGITS
from mixtral_probe.tables.loss_parts import LossParts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PLACEMENT = {
    "rank_imbalance": "load of the busiest rank / mean, the experts placed in their order; 1 when even; no replicas",
    "rank_imbalance_eplb": "the same as EPLB places the experts and their replicas by the load of all documents",
    "rank_imbalance_eplb_crossval": "the same, placed by the load of one half of the blocks, loaded by the other",
    "load_balancing_loss_device": "DeepSeekMoE: sum over ranks of (mean E f)(sum P) of their experts; 1 at balance",
}
KEYS = ("layer", "group", "ranks", "replicas")
_DRAWS = 40


def placement_simulation(
    stats: RoutingStats, *, ranks: Sequence[int] | None = None, spare: Sequence[int] = (0, 1)
) -> pd.DataFrame:
    """Load of the busiest rank against the mean, were the experts of each layer spread over some ranks.

    Columns: layer, group, ranks, replicas, metric, value, low, high, null, n, scope. Rows without a layer are about all
    layers: the sum of the busiest ranks' loads / the sum of the means, as vLLM has it (SGLang: mean of the ratios).

    Args:
        stats: the statistics.
        ranks: numbers of devices, each dividing E; None for all of these above 1.
        spare: replicas beyond E, for each rank.

    Raises:
        InputError: a number of ranks that does not divide E, or a negative number of replicas.
    """
    experts, view = stats.num_experts, View.of(stats)
    load, n = view.total.counts, view.total.tokens  # [L, G, E], [L, G]
    halves = _halves(stats)
    parts = []
    for size in _ranks(experts, ranks):
        parts.append(_rows(view, "rank_imbalance", size, experts, rank_load(load, np.arange(experts), size), n))
        parts.append(_device_loss(view, size))
        for more in spare:
            replicas = experts + size * _whole(more)
            fit = eplb_placement(load[:, -1], replicas=replicas, ranks=size)[:, None]  # [L, 1, R]
            parts.append(_rows(view, "rank_imbalance_eplb", size, replicas, rank_load(load, fit, size), n))
            crossed = _crossed(halves, replicas, size)
            parts.append(_rows(view, "rank_imbalance_eplb_crossval", size, replicas, crossed, n))
    return tidy(parts, KEYS)


def _device_loss(view: View, ranks: int) -> pd.DataFrame:
    name, losses = "load_balancing_loss_device", LossParts(view.stats.num_experts_per_tok)
    keys = view.keys() | {"ranks": ranks, "replicas": view.stats.num_experts}
    if view.total.probability is None:
        return missing_rows(keys, name, view.total.tokens.shape, NO_LOGITS)
    found = measure(
        view,
        lambda sums: metrics.device_balance_loss(losses.share(sums), losses.probability(sums), ranks),
        bounds=(0, ranks),
    )
    scope = f"one layer; {view.tokens_scope}; the experts placed in their order"
    return estimate_rows(keys, name, found, 1.0, view.total.tokens, scope)


def _ranks(experts: int, ranks: Sequence[int] | None) -> list[int]:
    sizes = [size for size in range(min(2, experts), experts + 1) if experts % size == 0] if ranks is None else ranks
    for size in sizes:
        if size < 1 or experts % size:
            raise InputError(f"a number of ranks must divide the {experts} experts of a layer, but {size} came")
    return sorted({int(size) for size in sizes})


def _whole(spare: int) -> int:
    if spare < 0:
        raise InputError(f"spare replicas of a rank must be 0 or more, but {spare} came")
    return int(spare)


def _halves(stats: RoutingStats) -> Integers:
    """[2, L, G, E] the load of every other block; the group "all" last where there are others."""
    counts = stats.sums.counts  # [L, G, Bk, E]
    both = np.stack([counts[:, :, half::2].sum(2) for half in (0, 1)])
    return with_all(both, stats.by, axis=2)


def _crossed(halves: Integers, replicas: int, ranks: int) -> Floats:
    """[L, G, ranks] loads, each half's under the placement made for the other; NaN where a half has no load."""
    fits = [eplb_placement(half[:, -1], replicas=replicas, ranks=ranks)[:, None] for half in halves]
    # The busiest rank of the one placement is not that of the other, so ranks are put in the order of their load.
    parts = [np.sort(rank_load(half, fit, ranks), axis=-1) for half, fit in zip(halves, reversed(fits), strict=True)]
    there = (halves.sum(-1) > 0).all(0)[..., None]
    return np.where(there, parts[0] + parts[1], np.nan)


def _rows(view: View, metric: str, ranks: int, replicas: int, loads: Floats, n: Integers) -> pd.DataFrame:
    """Rows of the imbalance of loads [L, G, ranks], by layer and over all layers."""
    stats = view.stats
    chosen = stats.num_experts_per_tok
    about = f"{view.tokens_scope}; null: simulated uniform routing; "
    keys = {"group": np.array(view.groups, dtype=object), "ranks": ranks, "replicas": replicas}
    layer = {"layer": np.array(stats.layers).reshape(-1, 1)}
    null = np.vectorize(lambda tokens: _null(metric, int(tokens), stats.num_experts, chosen, ranks, replicas))
    pooled = metrics.ratio(loads.max(-1).sum(0), loads.mean(-1).sum(0))
    parts = []
    for more, value, tokens, where in (
        (layer, rank_imbalance(loads), n, "one layer"),
        ({}, pooled, n.max(0), "all layers: sum of the busiest / sum of the means"),
    ):
        missing = np.isnan(value)
        why = "not enough data: no tokens in one half" if metric.endswith("crossval") else "not enough data: no tokens"
        scope = np.where(missing, f"{where}; {about}{why}", f"{where}; {about}no interval: not smooth")
        count = np.where(missing, 0, tokens)
        chance = null(count) if count.size else np.nan
        parts.append(rows(more | keys, metric, value, null=chance, n=count, scope=scope))
    return pd.concat(parts, ignore_index=True)


@lru_cache(maxsize=4096)
def _null(metric: str, tokens: int, experts: int, chosen: int, ranks: int, replicas: int) -> float:
    """Mean of the same for loads of uniform routing; placed by the loads themselves, or, crossed, by other ones."""
    if not tokens:
        return float("nan")
    counts = metrics.uniform_counts(tokens, experts, chosen)[:_DRAWS]
    where = np.arange(experts)[None]
    if metric != "rank_imbalance":
        where = eplb_placement(counts, replicas=replicas, ranks=ranks)
        where = np.roll(where, 1, axis=0) if metric.endswith("crossval") else where
    return float(rank_imbalance(rank_load(counts, where, ranks)).mean())
