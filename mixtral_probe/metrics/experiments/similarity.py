"""How similar experts are as functions: their weights, and their outputs for the same tokens.

A neuron of an expert is the vector of the weights that belong to it: its rows of w1 and w3 and its column of w2, [3 C].
The order of the I neurons of an expert is arbitrary, since permuting them does not change the outputs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]


def cosine_similarity(vectors: ArrayLike) -> Floats:
    """[..., n, n] cosine of every two of the vectors [..., n, d], in [−1, 1]; NaN with a vector of length 0."""
    unit = _unit(vectors)
    return np.clip(unit @ np.swapaxes(unit, -1, -2), -1.0, 1.0)


def cosine_of_products(products: ArrayLike) -> Floats:
    """[..., n, n] the same of the inner products [..., n, n] of every two vectors."""
    inner = np.asarray(products, np.float64)
    lengths = np.sqrt(np.diagonal(inner, axis1=-2, axis2=-1))
    return np.clip(ratio(inner, lengths[..., :, None] * lengths[..., None, :]), -1.0, 1.0)


def neuron_mean_cosine(neurons: ArrayLike) -> Floats:
    """[E, E] cosine of the experts' mean neurons, of neurons [E, I, n], in [−1, 1] (Lo et al., 2406.18219).

    Independent of the order of the neurons, but also of every difference with the same mean.
    """
    return cosine_similarity(np.asarray(neurons, np.float64).mean(-2))


def align_neurons(one: ArrayLike, other: ArrayLike) -> NDArray[np.intp]:
    """[I] which neuron of `other` corresponds to each of `one`: the assignment with the largest sum of cosines.

    Args:
        one, other: [I, n] the neurons of two experts.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = _unit(one) @ _unit(other).T
    return linear_sum_assignment(np.nan_to_num(cosines), maximize=True)[1]


def aligned_cosine(one: ArrayLike, other: ArrayLike) -> tuple[float, float]:
    """Return the mean cosine of aligned neurons, and the tau of their order (Lo et al., 2406.18219, "reordering").

    Args:
        one, other: [I, n] the neurons of two experts.

    Returns:
        the mean over neurons of the cosine with the aligned neuron, in [−1, 1]; and Kendall's tau of the aligned and
        the original order, in [−1, 1]: 1 where every neuron keeps its place.
    """
    order = align_neurons(one, other)
    cosines = (_unit(one) * _unit(np.asarray(other, np.float64)[order])).sum(-1)
    return float(np.clip(cosines.mean(), -1.0, 1.0)), order_tau(order)


def order_tau(order: ArrayLike) -> float:
    """Return Kendall's tau of an order [n] of 0 … n − 1 and the natural one, in [−1, 1]; 1 of a single place."""
    # Imported here, since it takes longer than the rest of this package.
    from scipy.stats import kendalltau

    places = np.asarray(order)
    return float(kendalltau(np.arange(len(places)), places).statistic) if len(places) > 1 else 1.0


def chance_aligned_cosine(neurons: int, size: int, *, seed: int = 0) -> float:
    """Return the `aligned_cosine` of two experts of independent normal neurons [neurons, size]: above 0."""
    draw = np.random.default_rng(seed)
    return aligned_cosine(draw.normal(size=(neurons, size)), draw.normal(size=(neurons, size)))[0]


def angular_similarity(cosine: ArrayLike) -> Floats:
    """[...] 1 − arccos(c)/π, in [0, 1], 1/2 at right angles (Lo et al., 2406.18219, eq. 2)."""
    return 1.0 - np.arccos(np.clip(np.asarray(cosine, np.float64), -1.0, 1.0)) / np.pi


def shuffled_cosine(outputs: ArrayLike) -> Floats:
    """[E, E] mean cosine of two experts' outputs [E, T, C] on different tokens: the part common to all tokens."""
    unit = _unit(outputs)
    tokens, total = unit.shape[1], unit.sum(1)
    return (total @ total.T - np.einsum("itc,jtc->ij", unit, unit)) / (tokens * (tokens - 1))


def linear_cka(outputs: ArrayLike) -> Floats:
    """[E, E] linear centred kernel alignment of outputs [E, T, C], in [0, 1] (Kornblith et al., 1905.00414).

    ||Yc' Xc||_F² / (||Xc' Xc||_F ||Yc' Yc||_F) with each channel centred over the tokens. Rotating or scaling an
    expert's outputs does not change it. NaN for constant outputs.
    """
    grams = _grams(outputs)
    sizes = np.linalg.norm(grams, axis=-1)
    return np.clip(ratio(grams @ grams.T, sizes[:, None] * sizes), 0.0, 1.0)


def shuffled_linear_cka(outputs: ArrayLike) -> Floats:
    """[E, E] mean of `linear_cka` when the tokens of one expert are shuffled.

    tr K tr L / ((T − 1) ||K|| ||L||) with the centred Gram matrices K and L: exact (Kazi-Aoual et al. 1995).
    """
    grams = _grams(outputs)
    tokens = round(np.sqrt(grams.shape[-1]))
    traces = grams[:, :: tokens + 1].sum(-1)
    sizes = np.linalg.norm(grams, axis=-1)
    return ratio(traces[:, None] * traces, (tokens - 1) * sizes[:, None] * sizes)


def pair_correlation(one: ArrayLike, other: ArrayLike) -> Floats:
    """[...] correlation of two symmetric matrices [..., E, E] over their pairs i < j, in [−1, 1].

    For example, whether experts with similar gate rows compute similar outputs.
    """
    first, second = (np.asarray(matrix, np.float64) for matrix in (one, other))
    above = np.triu_indices(first.shape[-1], 1)
    a, b = (matrix[..., above[0], above[1]] for matrix in (first, second))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return ratio((a * b).sum(-1), np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1)))


def _unit(vectors: ArrayLike) -> Floats:
    v = np.asarray(vectors, np.float64)
    return ratio(v, np.linalg.norm(v, axis=-1, keepdims=True))


def _grams(outputs: ArrayLike) -> Floats:
    """[E, T²] centred Gram matrices."""
    x = np.asarray(outputs, np.float64)
    x = x - x.mean(-2, keepdims=True)
    return (x @ np.swapaxes(x, -1, -2)).reshape(len(x), -1)
