"""How unevenly expert parallelism would load its devices: `placement_simulation`."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.metrics import eplb_placement, rank_imbalance, rank_load
from mixtral_probe.stats import RoutingStats, with_all
from mixtral_probe.tables.frame import missing_rows, rows, tidy
from mixtral_probe.tables.given import of_stats
from mixtral_probe.tables.grouped import GroupedSums
from mixtral_probe.tables.leave_one_out import estimate_rows
from mixtral_probe.tables.losses.loss_chance import LossChance
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import INDEPENDENT, NO_LOGITS, NOT_SMOOTH, PERMUTED_EXPERTS, POSITIVE, UNIFORM
from mixtral_probe.tables.spec import VALUES_SAME_LOAD, Drawing, Metric, TableSpec
from mixtral_probe.tables.systems.windows import mean_over_layers

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_DRAWS = 40
_SETTLED = "null_same_load: the loads settle the value"
_DRAWN = f"null_same_load: tokens exchanged among the documents, mean of {metrics.EXCHANGES} draws"


@of_stats
def placement_simulation(
    stats: RoutingStats, *, ranks: Sequence[int] | None = None, spare: Sequence[int] = (0, 1)
) -> pd.DataFrame:
    """Return the load of the busiest rank / the mean, for the experts of each layer distributed over some ranks.

    Columns: layer, group, ranks, replicas, metric, value, corrected, low, high, null, null_same_load, n, scope. Rows
    without a layer are about all layers: the sum of the busiest ranks' loads / the sum of the means, as vLLM has it
    (SGLang: mean of the ratios).

    `null` is uniform routing. For `null_same_load` the documents of a layer and group exchange their tokens. That
    leaves the loads as they are, and with them all metrics but `rank_imbalance_eplb_crossval`, whose value above it is
    what the halves of the documents differ by: the load that the placement was not made for.

    Args:
        stats: the statistics.
        ranks: numbers of devices, each dividing E; None for all of these above 1.
        spare: replicas beyond E, for each rank.

    Raises:
        InputError: a number of ranks that does not divide E, or a negative number of replicas.
    """
    experts, sums = stats.num_experts, GroupedSums.of(stats)
    load, halves, exchanged = sums.total.counts, _halves(stats, stats.sums.counts), _exchanged(stats)
    parts = []
    for size in _ranks(experts, ranks):
        parts.append(_rows(sums, "rank_imbalance", size, experts, rank_load(load, np.arange(experts), size)))
        parts.append(_device_loss(sums, size))
        for more in spare:
            replicas = experts + size * _whole(more)
            fit = eplb_placement(load[:, -1], replicas=replicas, ranks=size)[:, None]  # [L, 1, R]
            parts.append(_rows(sums, "rank_imbalance_eplb", size, replicas, rank_load(load, fit, size)))
            crossed, same_load = _crossed(halves, replicas, size), _same_load(exchanged, replicas, size)
            parts.append(_rows(sums, "rank_imbalance_eplb_crossval", size, replicas, crossed, same_load))
    return tidy(parts, SPEC)


def _device_loss(sums: GroupedSums, ranks: int) -> pd.DataFrame:
    name, losses = "load_balancing_loss_device", LossParts(sums.stats.num_experts_per_tok)
    keys = sums.keys() | {"ranks": ranks, "replicas": sums.stats.num_experts}
    if sums.total.probability is None:
        return missing_rows(keys, name, sums.total.tokens.shape, NO_LOGITS)
    estimate = sums.estimate(
        lambda sums: metrics.device_balance_loss(losses.share(sums), losses.probability(sums), ranks),
        bounds=(0, ranks),
        curvature=1 / max(ranks - 1, 1),
    )
    scope = f"one layer; {sums.tokens_scope}; the experts placed in their order; {PERMUTED_EXPERTS}; {_SETTLED}"
    null = LossChance(sums.stats.num_experts_per_tok).device(sums.total, ranks)
    table = estimate_rows(keys, name, estimate, null, sums.total.tokens, scope)
    return table.assign(null_same_load=estimate.value.ravel())


def _ranks(experts: int, ranks: Sequence[int] | None) -> list[int]:
    sizes = [size for size in range(min(2, experts), experts + 1) if experts % size == 0] if ranks is None else ranks
    for size in sizes:
        if size < 1 or experts % size:
            raise InputError(f"a number of ranks must divide the {experts} experts of a layer, got {size}")
    return sorted({int(size) for size in sizes})


def _whole(spare: int) -> int:
    if spare < 0:
        raise InputError(f"spare replicas of a rank must be 0 or more, got {spare}")
    return int(spare)


def _halves(stats: RoutingStats, counts: Integers) -> Integers:
    """[2, L, G, ...] sums over every other block of counts [L, G, Bk, ...]; the group "all" last if grouped."""
    both = np.stack([counts[:, :, half::2].sum(2) for half in (0, 1)])
    return with_all(both, stats.by, axis=2)


def _exchanged(stats: RoutingStats) -> tuple[Floats, ...]:
    """Return loads [D, 2, L, G, E] of the halves where documents exchange their tokens: all documents; if grouped, also
    those of one group, with their sum, the group "all", last.
    """
    sums = stats.sums.counts, stats.structure.pairs, stats.sums.tokens
    every = _drawn_halves([array.sum(1, keepdims=True) for array in sums])
    if stats.by is None:
        return (every,)
    groups = [_drawn_halves([array[:, [g]] for array in sums], seed=g + 1) for g in range(len(stats.groups))]
    return every, with_all(np.concatenate(groups, axis=3), stats.by, axis=3)


def _drawn_halves(sums: Sequence[Integers], seed: int = 0) -> Floats:
    """[D, 2, L, G, E] loads of as many tokens as every other block has, and of the rest.

    Args:
        sums: counts [L, G, Bk, E], pairs [L, G, Bk, E, E] and tokens [L, G, Bk].
        seed: of the draws.
    """
    load, pairs, total = (array.sum(2) for array in sums)
    first = metrics.exchanged_counts(load, pairs, total, sums[2][:, :, ::2].sum(2), seed)
    return np.stack([first, load - first], axis=1)


def _same_load(exchanged: tuple[Floats, ...], replicas: int, ranks: int) -> Floats:
    """[L, G] the mean imbalance of crossed placements over draws, of each group by its own and of "all" by all."""
    of_all, *of_groups = (
        np.mean([rank_imbalance(_crossed(halves, replicas, ranks)) for halves in draws], axis=0) for draws in exchanged
    )
    return np.concatenate([*(groups[:, :-1] for groups in of_groups), of_all], axis=1)


def _crossed(halves: NDArray[Any], replicas: int, ranks: int) -> Floats:
    """[L, G, ranks] loads, each half's under the placement by the load of the other; NaN where one half has no load."""
    fits = [eplb_placement(half[:, -1], replicas=replicas, ranks=ranks)[:, None] for half in halves]
    # The busiest rank of the one placement is not that of the other, so ranks are put in the order of their load.
    parts = [np.sort(rank_load(half, fit, ranks), axis=-1) for half, fit in zip(halves, reversed(fits), strict=True)]
    loaded = (halves.sum(-1) > 0)[..., None]
    return np.where(loaded[0] == loaded[1], parts[0] + parts[1], np.nan)


def _rows(
    sums: GroupedSums, metric: str, ranks: int, replicas: int, loads: Floats, same_load: Floats | None = None
) -> pd.DataFrame:
    """Return rows of the imbalance of loads [L, G, ranks], by layer and over all layers.

    `same_load` [L, G] is the second null; None where it is the value.
    """
    stats, value = sums.stats, rank_imbalance(loads)
    about = f"{sums.tokens_scope}; null: simulated uniform routing; {_SETTLED if same_load is None else _DRAWN}"
    shape = (stats.num_experts, stats.num_experts_per_tok, ranks, replicas)
    n = np.where(np.isnan(value), 0, sums.total.tokens)
    null = np.array([_null(metric, int(tokens), *shape) for tokens in n.flat]).reshape(n.shape)
    nulls = null, value if same_load is None else same_load
    keys = {"ranks": ranks, "replicas": replicas}
    layers = _with_scope(sums.keys() | keys, metric, value, nulls, n, f"one layer; {about}")
    # The sum of the busiest / the sum of the means is the mean of the layers' imbalances, weighted by their loads.
    pooled = metrics.ratio(loads.max(-1).sum(0), loads.mean(-1).sum(0))
    of_all = mean_over_layers(null, n), mean_over_layers(nulls[1], np.where(n > 0, loads.sum(-1), 0))
    words = f"all layers: sum of the busiest / sum of the means; {about}"
    groups = {"group": np.array(sums.groups, dtype=object)}
    return pd.concat([layers, _with_scope(groups | keys, metric, pooled, of_all, sums.total.tokens.max(0), words)])


def _with_scope(
    keys: dict[str, Any], metric: str, value: Floats, nulls: tuple[Floats, Floats], tokens: Integers, about: str
) -> pd.DataFrame:
    """Return rows whose scope says why the interval, or the value, is missing."""
    missing = np.isnan(value)
    why = "no tokens in one half" if metric.endswith("crossval") else "no tokens"
    scope = np.where(missing, f"{about}; not enough data: {why}", f"{about}; {NOT_SMOOTH}")
    n, (null, same_load) = np.where(missing, 0, tokens), (np.where(missing, np.nan, each) for each in nulls)
    return rows(keys | {"null_same_load": same_load}, metric, value, null=null, n=n, scope=scope)


@lru_cache(maxsize=4096)
def _null(metric: str, tokens: int, experts: int, chosen: int, ranks: int, replicas: int) -> float:
    """Return the metric's mean for loads of uniform routing, placed by these loads or, cross-validated, by halves."""
    if not tokens:
        return float("nan")
    if metric.endswith("crossval"):
        halves = metrics.uniform_counts(tokens // 2, experts, chosen)[: 2 * _DRAWS].reshape(2, _DRAWS, 1, experts)
        return float(rank_imbalance(_crossed(halves, replicas, ranks)).mean())
    counts = metrics.uniform_counts(tokens, experts, chosen)[:_DRAWS]
    fit = eplb_placement(counts, replicas=replicas, ranks=ranks) if metric.endswith("eplb") else np.arange(experts)
    return float(rank_imbalance(rank_load(counts, fit, ranks)).mean())


SPEC = TableSpec(
    function=placement_simulation,
    source="stats",
    description="How unevenly devices that share the experts would be loaded.",
    keys=("layer", "group", "ranks", "replicas"),
    metrics={
        "rank_imbalance": Metric(
            "load of the busiest rank / mean, the experts placed in their order; 1 when even; no replicas",
            "busiest device / mean",
            bounds=(1.0, np.inf),
            null=UNIFORM,
        ),
        "rank_imbalance_eplb": Metric(
            "the same as EPLB places the experts and their replicas by the load of all documents",
            "busiest device / mean, EPLB",
            bounds=(1.0, np.inf),
            null=UNIFORM,
        ),
        "rank_imbalance_eplb_crossval": Metric(
            "the same, placed by the load of one half of the blocks, loaded by the other",
            "busiest device / mean, EPLB tried on other documents",
            bounds=(1.0, np.inf),
            null=UNIFORM,
        ),
        "load_balancing_loss_device": Metric(
            "DeepSeekMoE: sum over ranks of (mean E f)(sum P) of their experts, 1 at balance; null: independent "
            "routing",
            "loss of devices",
            ".4g",
            POSITIVE,
            INDEPENDENT,
        ),
    },
    figures=(Drawing("placement_simulation"),),
    narrows=True,
    values=VALUES_SAME_LOAD,
)
