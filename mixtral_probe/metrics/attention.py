"""Measures of attention maps, and of how they relate to the routing.

`weights` is `[..., S, S]`: row = query i, column = key j, 0 above the diagonal, each row summing to 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]


def attention_entropy_bits(weights: ArrayLike) -> Floats:
    """[..., S] entropy -sum_j a_ij log2 a_ij of each query's attention, bits, in [0, log2(i + 1)]."""
    a = np.asarray(weights, np.float64)
    return -(a * np.log2(np.where(a > 0, a, 1))).sum(-1)


def attention_distance(weights: ArrayLike) -> Floats:
    """[..., S] mean distance of the attended keys from each query, sum_j a_ij (i - j), tokens, in [0, i]."""
    a = np.asarray(weights, np.float64)
    place = np.arange(a.shape[-1])
    return (a * np.maximum(place[:, None] - place, 0)).sum(-1)


def attention_sink_share(weights: ArrayLike) -> Floats:
    """[..., S] attention a_i0 of each query on position 0, in [0, 1] (attention sinks: Xiao et al., 2309.17453)."""
    return np.asarray(weights)[..., 0].astype(np.float64)


def even_attention(size: int) -> Floats:
    """[S, S] attention spread evenly over a token and all tokens before it: 1 / (i + 1)."""
    return np.tri(size) / np.arange(1, size + 1)[:, None]


def attention_rollout(layers: Sequence[ArrayLike], queries: Sequence[int]) -> Floats:
    """[queries, S] how much of each position reaches the queries through all layers, if attention carried it alone.

    The row of a query in A~_L ... A~_1 with A~ = (A + I) / 2, rows normalised: half of every step is the residual
    stream (Abnar & Zuidema 2020, arXiv 2005.00928). Each row sums to 1. It leaves out values, experts and norms:
    a sketch of the flow, not an attribution.

    Args:
        layers: L of [S, S] weights from the first layer to the last, each the mean over its heads.
        queries: positions.
    """
    size = np.shape(layers[0])[-1]
    flow = np.eye(size)[list(queries)]
    for weights in reversed(layers):
        a = np.asarray(weights, np.float64)
        mixed = (a + np.eye(size)) / 2
        flow = flow @ (mixed / mixed.sum(-1, keepdims=True))
    return flow


def attended_share(weights: ArrayLike, experts: ArrayLike, num_experts: int) -> Floats:
    """[..., E] share of a query's attention that lies on tokens whose first choice is each expert; sums to 1.

    Args:
        weights: [..., M] attention of queries over M keys.
        experts: [M] the first choice of each key; a key with -1 belongs to none and is left out of the sum.
        num_experts: E.
    """
    a, first = np.asarray(weights, np.float64), np.asarray(experts)
    mass = a @ (first[:, None] == np.arange(num_experts))
    return ratio(mass, mass.sum(-1, keepdims=True))


def attention_difference(chosen_sum: ArrayLike, chosen: ArrayLike, total_sum: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., E] mean of a quantity over the tokens that chose an expert, minus the mean expected from their positions.

    sum_p (S_pe - n_pe S_p / T_p) / sum_p n_pe: within each bucket of positions p the tokens that chose the expert are
    compared with all tokens (direct standardisation). 0 when the choice is related to the quantity only through the
    position of the token; attention differs by position in every model, and so does routing.

    Args:
        chosen_sum: [..., P, E] sums S_pe of the quantity over the tokens of a bucket that chose the expert.
        chosen: [..., P, E] how many these are, n_pe.
        total_sum: [..., P] sums S_p over all tokens of the bucket.
        tokens: [..., P] how many these are, T_p.
    """
    observed, n = np.asarray(chosen_sum, np.float64), np.asarray(chosen, np.float64)
    mean = ratio(total_sum, tokens)
    expected = n * np.where(np.isnan(mean), 0.0, mean)[..., None]
    return ratio((observed - expected).sum(-2), n.sum(-2))


def spread_within(total_sum: ArrayLike, total_square: ArrayLike, tokens: ArrayLike) -> Floats:
    """[...] standard deviation of a quantity within buckets, sqrt(sum_p (Q_p - S_p^2 / T_p) / sum_p T_p).

    Args:
        total_sum: [..., P] sums S_p.
        total_square: [..., P] sums of squares Q_p.
        tokens: [..., P] T_p.
    """
    s, t = np.asarray(total_sum, np.float64), np.asarray(tokens, np.float64)
    within = np.asarray(total_square, np.float64) - np.where(t > 0, np.square(s) / np.maximum(t, 1), 0.0)
    return np.sqrt(ratio(np.maximum(within, 0).sum(-1), t.sum(-1)))
