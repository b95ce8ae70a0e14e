"""The placebo of ablations and edits: the same damage to as many assignments of tokens, whatever their expert.

A placebo can be drawn any number of times, and several draws can share one call, in which the batch is repeated.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.instruments.recorder import Window
from mixtral_probe.model import ExpertSlice, ForwardContext, Instrument, Routing, Site

Semantics = Literal["mask", "zero", "zero_renorm", "mean"]
_SITES = {"mask": Site.ROUTER_LOGITS, "zero": Site.ROUTING, "zero_renorm": Site.ROUTING, "mean": Site.EXPERT_OUTPUT}


@dataclass(frozen=True)
class DamageAssignments(Instrument):
    """The damage that an ablation does to all assignments of one expert, for any set of assignments of a layer."""

    layer: int
    damaged: Tensor
    """[T, E] bool, the experts removed from each row of the call."""
    semantics: Semantics
    means: Tensor | None = None
    """[E, C] the replacement of outputs, for the semantics "mean"."""

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for one site of the layer."""
        return layer == self.layer and site is _SITES[self.semantics]

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Return the value without the damaged assignments."""
        if site is Site.ROUTER_LOGITS:
            return value.masked_fill(self.damaged, -torch.inf)
        if site is Site.EXPERT_OUTPUT:
            return self._mean(value)
        return self._without_weight(value)

    def _without_weight(self, routing: Routing) -> Routing:
        weights = routing.weights.masked_fill(self.damaged.gather(1, routing.expert_ids), 0)
        if self.semantics == "zero_renorm":
            total = weights.sum(1, keepdim=True)
            weights = torch.where(total > 0, weights / total, weights)
        return replace(routing, weights=weights)

    def _mean(self, output: ExpertSlice) -> ExpertSlice:
        assert self.means is not None
        damaged = self.damaged[output.rows, output.expert, None]
        return replace(output, values=torch.where(damaged, self.means[output.expert].to(output.values), output.values))


@dataclass(frozen=True)
class ExchangeWeights(Instrument):
    """Exchanges weights between tokens, in one layer; experts stay the same."""

    layer: int
    source: Tensor
    """[T] int64, the row of the call whose weights each row takes."""

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for the choice of the layer."""
        return layer == self.layer and site is Site.ROUTING

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Return the choice with the weights exchanged."""
        return replace(value, weights=value.weights[self.source])


def draw_seed(seed: tuple[int, ...], draw: int) -> tuple[int, ...]:
    """Return the seed of one draw of a placebo; that of the first is the placebo's."""
    return (*seed, draw) if draw else seed


def matched_assignments(
    expert_ids: np.ndarray, touched: np.ndarray, windows: Iterable[Window], positions: int, *, num_experts: int,
    seed: tuple[int, ...],
) -> np.ndarray:  # fmt: skip
    """[T, E] bool: in each window as many assignments of each rank as are touched, of random tokens.

    The result does not depend on how windows share batches.

    Args:
        expert_ids: [T, K] the unchanged choice; T = windows · positions.
        touched: [T, K] bool, the assignments whose number at each rank is matched.
        windows: of the rows.
        positions: S.
        seed: of the random tokens, with document and window.
    """
    damaged = np.zeros((len(expert_ids), num_experts), bool)
    for row, window in enumerate(windows):
        rows = np.arange(row * positions, row * positions + window.length)
        order = np.random.default_rng([*seed, window.document, window.chunk]).permutation(rows)
        ends = np.cumsum(touched[rows].sum(0))
        for rank, end in enumerate(ends):  # no token loses a second one before all have lost one
            part = order.take(range(ends[rank - 1] if rank else 0, end), mode="wrap")
            damaged[part, expert_ids[part, rank]] = True
    return damaged
