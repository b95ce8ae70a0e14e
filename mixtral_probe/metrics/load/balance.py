"""How evenly the experts of a layer are used: plain functions of counts.

`counts` is `[..., E]`: how often each expert was chosen. Every function reduces the last axis and keeps the others.
Where nothing was chosen the value is NaN, without a warning; the tables note it in their scope.
Experts of different layers are different networks: never add counts over layers before calling these.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio, share

Floats = NDArray[np.float64]


def selection_frequency(counts: ArrayLike, tokens: ArrayLike) -> Floats:
    """[..., E] share of tokens that chose the expert, F_i = n_i / T, in [0, 1], sum K, even at K/E (OLMoE, eq. 7).

    Args:
        counts: [..., E] assignments.
        tokens: [...] tokens T they came from.
    """
    return ratio(counts, np.asarray(tokens, np.float64)[..., None])


def relative_load(counts: ArrayLike) -> Floats:
    """[..., E] load against the mean load, E f_i: 1 when even, in [0, E/K] (DeepSeek-V3, fig. 9)."""
    counts = np.asarray(counts, np.float64)
    return counts.shape[-1] * share(counts)


def max_violation(counts: ArrayLike) -> Floats:
    """[...] MaxVio = max_i E f_i - 1 = (max load - mean) / mean, in [0, E/K - 1], 0 when even (arXiv 2408.15664)."""
    return relative_load(counts).max(-1) - 1


def min_violation(counts: ArrayLike) -> Floats:
    """[...] MinVio = 1 - min_i E f_i, in [0, 1]: 0 when even, 1 when some expert was never chosen."""
    return 1 - relative_load(counts).min(-1)


def cv_squared(counts: ArrayLike) -> Floats:
    """[...] Var(n) / mean(n)^2 with the population variance, in [0, E/K - 1], 0 when even (Shazeer et al. 2017).

    Tools that use the sample variance (ddof=1) report E/(E-1) times this.
    """
    return np.square(relative_load(counts) - 1).mean(-1)


def gini(counts: ArrayLike) -> Floats:
    """[...] Gini coefficient sum_ij |f_i - f_j| / (2 E^2 mean f), in [0, 1 - K/E], 0 when even."""
    ordered = np.sort(share(counts), axis=-1)
    experts = ordered.shape[-1]
    # For sorted f the double sum of |f_i - f_j| collapses to this weighted single sum.
    return ordered @ (2 * np.arange(1, experts + 1) - experts - 1.0) / experts


def _entropy_nats(counts: ArrayLike) -> Floats:
    f = share(counts)
    return -(f * np.log(np.where(f > 0, f, 1.0))).sum(-1)


def normalized_entropy(counts: ArrayLike) -> Floats:
    """[...] H(f) / ln E, in [ln K / ln E, 1], 1 when even; 1 by definition for a single expert."""
    nats = _entropy_nats(counts)
    experts = np.asarray(counts).shape[-1]
    return nats / np.log(experts) if experts > 1 else nats + 1


def effective_experts(counts: ArrayLike) -> Floats:
    """[...] exp H(f): how many equally used experts would be as diverse, in [K, E], E when even."""
    return np.exp(_entropy_nats(counts))


def dead_experts(counts: ArrayLike) -> Floats:
    """[...] how many experts were never chosen, in [0, E - K]; NaN where nothing was chosen."""
    counts = np.asarray(counts)
    return np.where(counts.sum(-1) > 0, (counts == 0).sum(-1), np.nan)


def inverse_simpson(counts: ArrayLike) -> Floats:
    """[...] 1 / sum f^2: how many equally used experts make two choices agree as often, in [K, E] (Simpson 1949)."""
    return ratio(1.0, np.square(share(counts)).sum(-1))


def uniform_load_variance(choices: ArrayLike, num_experts: int) -> Floats:
    """[...] variance of an expert's load n_i, exactly: the sum over tokens of k/E (1 - k/E).

    Args:
        choices: [..., K] how many tokens chose 1, 2, ... K experts.
        num_experts: E.
    """
    tokens = np.asarray(choices, np.float64)
    rate = np.arange(1, tokens.shape[-1] + 1) / num_experts
    return (tokens * rate * (1 - rate)).sum(-1)


def load_chi_squared(counts: ArrayLike, choices: ArrayLike) -> Floats:
    """[...] chi-square of the load against an even one, with E - 1 degrees of freedom for any K; 0 where K = E.

    sum (n_i - mean)^2 (E - 1) / (E V), V being `uniform_load_variance`. For K choices of every token that is
    X^2 (E - 1) / (E - K): a token's choices exclude each other, so Pearson's X^2 alone has the mean E - K (7/6 for 2 of
    8). Its p-value is valid for independent tokens only; the tokens of a text are not.

    Args:
        counts: [..., E].
        choices: [..., K] how many tokens chose 1, 2, ... K experts.
    """
    n = np.asarray(counts, np.float64)
    experts, variance = n.shape[-1], uniform_load_variance(choices, n.shape[-1])
    square = np.square(n - n.mean(-1, keepdims=True)).sum(-1) * (experts - 1)
    settled = np.where(n.sum(-1) > 0, 0.0, np.nan)
    return np.where(variance > 0, ratio(square, experts * variance), settled)
