"""What the losses and their parts are on average when each token's expert labels are permuted independently.

Such routing prefers no expert, is as sure as the router was, and is independent from token to token and from layer to
layer. A loss of few tokens is above its balanced value even then: `metrics.chance_load_balancing_loss`. Each method
takes sums [L, G, ...] and returns the mean of the method of `LossParts` with its name; by symmetry all experts have the
same part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Sums
from mixtral_probe.stats.per_token import TOP1_PROBABILITY, TOPK_MASS
from mixtral_probe.tables.losses.loss_parts import mean_over_layers

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LossChance:
    """The means of the losses and their parts for a fixed number of chosen experts."""

    chosen: int
    """K."""

    def each_layer(self, sums: Sums) -> Floats:
        """[L, ...] 1 + (E q / K - 1) / T."""
        return self._loss(_quantity(sums, TOPK_MASS), sums.tokens, sums.counts.sum(-1), sums)

    def mean(self, sums: Sums) -> Floats:
        """[...] of the mean of the layers' losses."""
        return mean_over_layers(self.each_layer(sums), sums)

    def pooled(self, sums: Sums) -> Floats:
        """[...] K + (E q - K) / N, of N tokens of all layers together."""
        mass, choices = _quantity(sums, TOPK_MASS).sum(0), sums.counts.sum((0, -1))
        return self.chosen * self._loss(mass, sums.tokens.sum(0), choices, sums)

    def pooled_part(self, sums: Sums) -> Floats:
        """[L, ...] one layer's part of `pooled`: its probabilities meet the choices of all layers."""
        choices, experts = sums.counts.sum(-1), sums.counts.shape[-1]
        others = sums.tokens * choices.sum(0) - choices
        return metrics.ratio(experts * _quantity(sums, TOPK_MASS) + others, np.square(sums.tokens.sum(0)))

    def contribution(self, sums: Sums) -> Floats:
        """[L, ..., 1] of each expert."""
        return _of_expert(self.each_layer(sums), sums)

    def excess(self, sums: Sums) -> Floats:
        """[L, ..., 1] of each expert."""
        choices = metrics.ratio(sums.counts.sum(-1), self.chosen * sums.tokens)  # 1 unless some chose fewer than K
        return _of_expert(self.each_layer(sums) - choices, sums)

    def gap_layers(self, sums: Sums) -> Floats:
        """[..., 1] of each expert."""
        return _of_expert(self.mean(sums) - self.pooled(sums) / self.chosen, sums)

    def gap_groups(self, sums: Sums) -> Floats:
        """[L, 1] of each expert, of sums [L, G, ...] without the group "all"."""
        mean = metrics.weighted_mean(self.each_layer(sums), sums.tokens)
        return _of_expert(mean - self.each_layer(sums.map(lambda array: array.sum(1))), sums)

    def gshard(self, sums: Sums) -> Floats:
        """[L, ...] of GShard's loss, where a token's likeliest expert is its first choice."""
        first, experts = _quantity(sums, TOP1_PROBABILITY), sums.counts.shape[-1]
        loss = metrics.chance_load_balancing_loss(first, sums.tokens, sums.tokens, num_experts=experts, chosen=1)
        return loss / experts**2

    def device(self, sums: Sums, ranks: int) -> Floats:
        """[L, ...] of the loss over devices that have the experts in their order."""
        experts, choices = sums.counts.shape[-1], sums.counts.sum(-1)
        sizes = {"num_experts": experts, "chosen": self.chosen, "ranks": ranks}
        return metrics.chance_device_balance_loss(_quantity(sums, TOPK_MASS), sums.tokens, choices, **sizes)

    def _loss(self, mass: Floats, tokens: NDArray[np.int64], choices: NDArray[np.int64], sums: Sums) -> Floats:
        experts = sums.counts.shape[-1]
        return metrics.chance_load_balancing_loss(mass, tokens, choices, num_experts=experts, chosen=self.chosen)


def _quantity(sums: Sums, place: int) -> Floats:
    """[L, ...] the sum over tokens of one of the quantities of `CONFIDENCE`."""
    assert sums.confidence is not None
    return sums.confidence[..., place]


def _of_expert(whole: Floats, sums: Sums) -> Floats:
    """[..., 1] the part of one expert."""
    return whole[..., None] / sums.counts.shape[-1]
