"""How differently two groups of documents use the experts of a layer: `p` and `q` are `[..., E]` counts of each.

The counts of a group are divided by their sum, so groups of different size have equal weight.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.metrics.ratios import ratio, share

Floats = NDArray[np.float64]


def js_divergence_bits(p: ArrayLike, q: ArrayLike) -> Floats:
    """[...] Jensen-Shannon divergence of the two loads, bits, in [0, 1]: 0 alike, 1 no expert in common; symmetric.

    Above 0 for samples of one and the same load: by about `spread_divergence_bits`.
    """
    f, g = share(p), share(q)
    return np.maximum(_entropy_bits((f + g) / 2) - (_entropy_bits(f) + _entropy_bits(g)) / 2, 0.0)


def normalized_js_divergence(p: ArrayLike, q: ArrayLike) -> Floats:
    """[...] JSD / (log E - mean entropy of the two), in [0, 1] (Bandarkar et al. 2025).

    The divergence as a share of the largest possible for loads as uneven as these. NaN where both are perfectly even.
    """
    return ratio(js_divergence_bits(p, q), _largest_bits(p, q))


def load_cosine(p: ArrayLike, q: ArrayLike) -> Floats:
    """[...] cosine of the two loads, in [0, 1]: 1 alike, 0 no expert in common."""
    f, g = share(p), share(q)
    return ratio((f * g).sum(-1), np.sqrt((f * f).sum(-1) * (g * g).sum(-1)))


def top_p_jaccard(p: ArrayLike, q: ArrayLike, *, mass: float = 0.5) -> Floats:
    """[...] experts in common / experts in either, of the fewest experts that hold `mass` of each load; in [0, 1]."""
    f, g = (_fewest(share(counts), mass) for counts in (p, q))
    jaccard = ratio((f & g).sum(-1), (f | g).sum(-1))
    return np.where(np.isfinite(share(p)).all(-1) & np.isfinite(share(q)).all(-1), jaccard, np.nan)


def _largest_bits(p: ArrayLike, q: ArrayLike) -> Floats:
    """[...] log E - mean entropy; 0 where it is within rounding."""
    f, g = share(p), share(q)
    bits = np.log2(f.shape[-1]) - (_entropy_bits(f) + _entropy_bits(g)) / 2
    return np.where(bits > 1e-12, bits, 0.0)


def _entropy_bits(f: Floats) -> Floats:
    return -(f * np.log2(np.where(f > 0, f, 1.0))).sum(-1)


def _fewest(f: Floats, mass: float) -> NDArray[np.bool_]:
    order = np.argsort(-f, axis=-1, kind="stable")
    ordered = np.take_along_axis(f, order, -1)
    needed = ordered.cumsum(-1) - ordered < mass - 1e-12
    chosen = np.zeros(f.shape, bool)
    np.put_along_axis(chosen, order, needed, -1)
    return chosen
