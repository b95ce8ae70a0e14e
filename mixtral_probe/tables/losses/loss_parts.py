"""The losses as functions of sums, for `balance_loss` and its breakdowns.

f = n / (K T) and P = mean softmax over all experts are both means over the same tokens, which is what makes the
decompositions exact. Each method takes sums [L, G, ...] or [L, G, Bk, ...].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import Sums

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LossParts:
    """The losses and their parts for a fixed number of chosen experts."""

    chosen: int
    """K."""

    def share(self, sums: Sums) -> Floats:
        """[L, ..., E] f = n / (K T)."""
        return metrics.ratio(sums.counts, self.chosen * sums.tokens[..., None])

    def probability(self, sums: Sums) -> Floats:
        """[L, ..., E] P = mean softmax."""
        assert sums.probability is not None
        return metrics.ratio(sums.probability, sums.tokens[..., None])

    def each_layer(self, sums: Sums) -> Floats:
        """[L, ...] K-normalised loss, 1 at balance."""
        return metrics.load_balancing_loss(self.share(sums), self.probability(sums))

    def mean(self, sums: Sums) -> Floats:
        """[...] mean of the layers' losses, weighted by tokens (which are alike unless layers were skipped)."""
        return mean_over_layers(self.each_layer(sums), sums)

    def pooled_part(self, sums: Sums) -> Floats:
        """[L, ...] each layer's part of the pooled loss: E sum_i F_i P_i^l T^l / sum_l T^l with F over all layers."""
        assert sums.probability is not None
        over_layers = sums.tokens.sum(0)[..., None]
        frequency = metrics.ratio(sums.counts.sum(0), over_layers)
        return metrics.load_balancing_loss(frequency, metrics.ratio(sums.probability, over_layers))

    def pooled(self, sums: Sums) -> Floats:
        """[...] what load_balancing_loss_func of transformers gives: all layers concatenated, K at balance."""
        return self.pooled_part(sums).sum(0)

    def z_loss(self, sums: Sums) -> Floats:
        """[L, ...] mean logsumexp^2 of the logits, nats^2 (ST-MoE, arXiv 2202.08906, eq. 5)."""
        assert sums.z_loss is not None
        return metrics.ratio(sums.z_loss, sums.tokens)

    def z_loss_mean(self, sums: Sums) -> Floats:
        """[...] mean of the layers' z-losses."""
        return mean_over_layers(self.z_loss(sums), sums)

    def contribution(self, sums: Sums) -> Floats:
        """[L, ..., E] E f P."""
        return metrics.load_balancing_contribution(self.share(sums), self.probability(sums))

    def excess(self, sums: Sums) -> Floats:
        """[L, ..., E] E (f - 1/E)(P - 1/E)."""
        return metrics.load_balancing_excess(self.share(sums), self.probability(sums))

    def gap_layers(self, sums: Sums) -> Floats:
        """[..., E] what pooling the layers hides, E Cov_l(f, P)."""
        return self._gap(sums, 0)

    def gap_groups(self, sums: Sums) -> Floats:
        """[L, E] what pooling the groups hides, E Cov_g(f, P), of sums [L, G, ...] without the group "all"."""
        return self._gap(sums, 1)

    def gap_groups_without(self, sums: Sums, without: Sums) -> Floats:
        """[L, G, Bk, E] the same with one block of one group left out and the groups' shares of the tokens as before.

        Args:
            sums: [L, G, ...] without the group "all".
            without: [L, G, Bk, ...] each group without one of its blocks.
        """
        share = metrics.ratio(sums.tokens, sums.tokens.sum(1, keepdims=True))[..., None]  # [L, G, 1]
        f, p = (np.nan_to_num(array) for array in (self.share(sums), self.probability(sums)))  # [L, G, E]
        less_f, less_p = self.share(without), self.probability(without)  # [L, G, Bk, E]
        means = [share * array for array in (f * p, f, p)]
        changed = [share[:, :, None] * array for array in (less_f * less_p, less_f, less_p)]
        product, mean_f, mean_p = (
            mean.sum(1)[:, None, None] + more - mean[:, :, None] for mean, more in zip(means, changed, strict=True)
        )
        return f.shape[-1] * (product - mean_f * mean_p)

    def _gap(self, sums: Sums, axis: int) -> Floats:
        f, p = (np.moveaxis(array, axis, -2) for array in (self.share(sums), self.probability(sums)))
        return metrics.pooling_gap(f, p, np.moveaxis(sums.tokens, axis, -1))


def mean_over_layers(values: Floats, sums: Sums) -> Floats:
    """[...] mean of values [L, ...] of layers, weighted by their tokens."""
    return metrics.weighted_mean(np.moveaxis(values, 0, -1), np.moveaxis(sums.tokens, 0, -1))
