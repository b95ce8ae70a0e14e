"""The placebo of ablations and edits: as many assignments of tokens, damaged alike, to no expert in particular."""

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
    """What an ablation does to all assignments of one expert, done to any set of assignments of a layer."""

    layer: int
    damaged: Tensor
    """[T, E] bool, which expert is taken from which row of the call."""
    semantics: Semantics
    means: Tensor | None = None
    """[E, C] what takes the place of an output, for the semantics "mean"."""

    def wants(self, site: Site, layer: int) -> bool:
        """One site of the layer."""
        return layer == self.layer and site is _SITES[self.semantics]

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """The value without the damaged assignments."""
        if site is Site.ROUTER_LOGITS:
            return value.masked_fill(self.damaged, -torch.inf)
        if site is Site.EXPERT_OUTPUT:
            return self._mean(value)
        return self._without_weight(value)

    def _without_weight(self, routing: Routing) -> Routing:
        kept = routing.weights.masked_fill(self.damaged.gather(1, routing.expert_ids), 0)
        if self.semantics == "zero_renorm":
            total = kept.sum(1, keepdim=True)
            kept = torch.where(total > 0, kept / total, kept)
        return replace(routing, weights=kept)

    def _mean(self, shown: ExpertSlice) -> ExpertSlice:
        assert self.means is not None
        meant = self.damaged[shown.rows, shown.expert, None]
        return replace(shown, values=torch.where(meant, self.means[shown.expert].to(shown.values), shown.values))


@dataclass(frozen=True)
class ExchangeWeights(Instrument):
    """Weights of other tokens in place of their own, in one layer; everyone keeps the experts."""

    layer: int
    source: Tensor
    """[T] int64, the row of the call whose weights each row gets."""

    def wants(self, site: Site, layer: int) -> bool:
        """The choice of the layer."""
        return layer == self.layer and site is Site.ROUTING

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """The choice with the weights exchanged."""
        return replace(value, weights=value.weights[self.source])


def matched_assignments(
    expert_ids: np.ndarray, touched: np.ndarray, windows: Iterable[Window], positions: int, *, num_experts: int,
    seed: tuple[int, ...],
) -> np.ndarray:  # fmt: skip
    """[T, E] bool: in each window as many assignments of each rank as are touched, of tokens drawn at random.

    The same in whatever batch a window is.

    Args:
        expert_ids: [T, K] the choice without any change; T = windows · positions.
        touched: [T, K] bool, the assignments whose number by rank is matched.
        windows: of the rows.
        positions: S.
        seed: with document and window, of what is drawn.
    """
    damaged = np.zeros((len(expert_ids), num_experts), bool)
    for row, window in enumerate(windows):
        own = np.arange(row * positions, row * positions + window.length)
        order = np.random.default_rng([*seed, window.document, window.chunk]).permutation(own)
        ends = np.cumsum(touched[own].sum(0))
        for rank, end in enumerate(ends):  # no token loses a second one before everybody lost one
            part = order.take(range(ends[rank - 1] if rank else 0, end), mode="wrap")
            damaged[part, expert_ids[part, rank]] = True
    return damaged
