"""The metrics that are compared between groups, layers and slices: smooth functions of the sums of tokens."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats import CONFIDENCE, RoutingStats, Sums
from mixtral_probe.tables.grouped import Statistic
from mixtral_probe.tables.load.balance import SPEC as BALANCE
from mixtral_probe.tables.load.balance import balance_metrics
from mixtral_probe.tables.load.confidence import CONFIDENCE_METRICS
from mixtral_probe.tables.load.expert_load import SPEC as LOAD
from mixtral_probe.tables.load.expert_load import load_statistics
from mixtral_probe.tables.load.router_confidence import mean_confidence
from mixtral_probe.tables.losses.balance_loss import SPEC as LOSS
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import NO_DIFFERENCE
from mixtral_probe.tables.spec import Metric

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Compared(NamedTuple):
    """A metric that is compared."""

    statistic: Statistic
    """[...] or, by expert, [..., E] of sums [...]."""
    tokens: Callable[[Sums], Integers]
    """[...] the tokens it is a mean over."""


def layer_statistics(stats: RoutingStats) -> dict[str, Compared]:
    """Return the metrics with one value for a layer, by name, of which these statistics have the sums."""
    balances = balance_metrics(stats.num_experts, stats.num_experts_per_tok)
    found = {
        name: Compared(partial(_of_counts, metric.formula), _tokens)
        for name, metric in balances.items()
        if metric.smooth
    }
    if stats.sums.probability is None:
        return found
    parts = LossParts(stats.num_experts_per_tok)
    found |= {
        "load_balancing_loss": Compared(parts.each_layer, _tokens),
        "router_z_loss": Compared(parts.z_loss, _tokens),
    }
    for number, name in enumerate(CONFIDENCE):
        found[name] = Compared(partial(mean_confidence, index=number), partial(_finite, index=number))
    return found


def expert_statistics(stats: RoutingStats) -> dict[str, Compared]:
    """Return the metrics with a value for each expert of a layer, by name."""
    return {name: Compared(load_statistics(stats)[name].of, _tokens) for name in EXPERT_METRICS}


def _of_counts(formula: Callable[[Integers], Floats], sums: Sums) -> Floats:
    return formula(sums.counts)


def _tokens(sums: Sums) -> Integers:
    return sums.tokens


def _finite(sums: Sums, index: int) -> Integers:
    assert sums.confidence_tokens is not None
    return sums.confidence_tokens[..., index]


def difference_metrics(first: str, second: str, *names: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the declarations of the differences of metrics, second less first, as these are called in the table."""
    return {
        f"{name}_difference": Metric(
            f"`{second}` less `{first}`: {metric.meaning.split('; null')[0]}; 0 when alike",
            f"difference of {metric.label}",
            f"+{metric.format}",
            (metric.bounds[0] - metric.bounds[1], metric.bounds[1] - metric.bounds[0]),
            NO_DIFFERENCE,
        )
        for declared in names
        for name, metric in declared.items()
    }


_SMOOTH = ("cv_squared", "normalized_entropy", "effective_experts")
_LOSSES = ("load_balancing_loss", "router_z_loss")
LAYER_METRICS = (
    {name: BALANCE.metrics[name] for name in _SMOOTH}
    | {name: LOSS.metrics[name] for name in _LOSSES}
    | CONFIDENCE_METRICS
)
"""The declarations of `layer_statistics`."""
EXPERT_METRICS = {"selection_frequency": LOAD.metrics["selection_frequency"]}
"""And of `expert_statistics`."""
