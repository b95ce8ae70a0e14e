"""How much each expert contributes: sizes of outputs, super experts, and the error of a layer with fewer experts."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics.losses.router import softmax
from mixtral_probe.metrics.ratios import ratio

Floats = NDArray[np.float64]
MOST_SUBSETS = 10_000


def expert_activation_norm(norms: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E] EAN: mean over an expert's tokens of ||E_j(x)||_2; NaN where it has none.

    Args:
        norms: [..., E] sum over the tokens routed to the expert of the length of its output.
        counts: [..., E] those tokens.
    """
    return ratio(norms, counts)


def reap_saliency(gated_norms: ArrayLike, counts: ArrayLike) -> Floats:
    """[..., E] REAP: mean over an expert's tokens of g_j ||E_j(x)||_2 (2510.13999, eq. 9); NaN where it has none.

    Args:
        gated_norms: [..., E] sum over the tokens routed to the expert of routing weight times output length.
        counts: [..., E] those tokens.
    """
    return ratio(gated_norms, counts)


def super_expert_threshold(largest: ArrayLike) -> float:
    """Return the threshold of super experts: the 99.5th percentile of all experts, at least a tenth of the maximum.

    Su et al. (2507.23279).

    Args:
        largest: [L, E] the largest |value| any channel of an expert's output took on any token.
    """
    maxima = np.asarray(largest, np.float64)
    return float(max(np.quantile(maxima, 0.995), 0.1 * maxima.max()))


def super_experts(largest: ArrayLike, forming: ArrayLike) -> NDArray[np.bool_]:
    """[L, E] which experts are super experts: above the threshold, in a layer that forms massive activations.

    Args:
        largest: [L, E], as for `super_expert_threshold`.
        forming: [L] whether the residual stream has massive activations after the layer and not before it.
    """
    maxima = np.asarray(largest, np.float64)
    # Among fewer than 200 experts the largest always exceeds the percentile: then only `forming` can exclude it.
    return (maxima > super_expert_threshold(maxima)) & np.asarray(forming, bool)[:, None]


def is_massive(largest: ArrayLike, median: ArrayLike) -> NDArray[np.bool_]:
    """[...] whether a hidden state has a massive activation: above 100, and 1000 times the median size of its channels.

    Sun et al. (2402.17762).

    Args:
        largest: [...] the largest |value| of a token's hidden state.
        median: [...] the median |value| of it.
    """
    top = np.asarray(largest, np.float64)
    return (top > 100) & (top > 1000 * np.asarray(median, np.float64))


def expert_subsets(num_experts: int, sizes: Sequence[int]) -> NDArray[np.bool_]:
    """[M, E] every subset with one of these sizes, C(E, r) of size r, in lexicographic order.

    Raises:
        InputError: a size is out of range, or there are more than 10,000 subsets.
    """
    for size in sizes:
        if not 1 <= size <= num_experts:
            raise InputError(f"a subset of {num_experts} experts must have 1 to {num_experts}, got {size}")
    total = sum(comb(num_experts, size) for size in sizes)
    if total > MOST_SUBSETS:
        raise InputError(
            f"at most {MOST_SUBSETS:,} subsets can be tried, got {total:,} of {num_experts} experts with the sizes "
            f"{list(sizes)}; name other sizes"
        )
    chosen = [subset for size in sizes for subset in combinations(range(num_experts), size)]
    masks = np.zeros((len(chosen), num_experts), bool)
    for mask, subset in zip(masks, chosen, strict=True):
        mask[list(subset)] = True
    return masks


def subset_error(logits: ArrayLike, outputs: ArrayLike, kept: ArrayLike, *, chosen: int) -> float:
    """Return ||F(x; kept) − F(x)||_F / ||F(x)||_F, the error of a layer with only some experts (NAEE, 2402.14800).

    F routes to the best `chosen` of the experts that are kept, with weights that sum to 1. At least 0.

    Args:
        logits: [T, E] router logits.
        outputs: [E, T, C] the output of every expert for every token.
        kept: [E] bool.
        chosen: K; where fewer are kept, all of them are chosen.
    """
    z, y, keep = np.asarray(logits, np.float64), np.asarray(outputs), np.asarray(kept, bool)
    whole = _mixture(z, y, chosen)
    part = _mixture(z[:, keep], y[keep], min(chosen, int(keep.sum())))
    return float(ratio(np.linalg.norm(part - whole), np.linalg.norm(whole)))


def rank_counts(norms: ArrayLike, logits: ArrayLike) -> NDArray[np.int64]:
    """[E, E] tokens by the rank of an expert in the router and by output length (Lo et al.).

    Entry [r, s] counts (token, expert) where the expert has the r-th largest logit and the s-th longest output; every
    row and column sums to T.

    Args:
        norms: [T, E] length of the output of each expert for each token, chosen or not.
        logits: [T, E].
    """
    gate, norm = (
        np.argsort(np.argsort(-np.asarray(array), axis=-1, kind="stable"), axis=-1) for array in (logits, norms)
    )
    experts = gate.shape[-1]
    return np.bincount((gate * experts + norm).ravel(), minlength=experts**2).reshape(experts, experts)


def _mixture(logits: Floats, outputs: NDArray[np.floating], chosen: int) -> Floats:
    """[T, C] the weighted sum of the `chosen` best experts of each token."""
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :chosen]
    weights, _ = softmax(np.take_along_axis(logits, order, -1))
    mixed = np.zeros(outputs.shape[1:])
    for rank in range(chosen):
        mixed += weights[:, rank, None] * outputs[order[:, rank], np.arange(len(order))]
    return mixed
