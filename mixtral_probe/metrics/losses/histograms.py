"""Quantiles of histograms with fixed bins: such histograms merge by adding, without the single values."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def histogram_quantile(counts: ArrayLike, edges: ArrayLike, level: float) -> Floats:
    """[...] the `level` quantile, interpolated within its bin; exact to one bin width; NaN for an empty histogram.

    Args:
        counts: [..., bins] how many values fell into each bin.
        edges: [bins + 1] rising and finite; values outside are counted in the first or last bin.
        level: in [0, 1].
    """
    counts, edges = np.asarray(counts, np.float64), np.asarray(edges, np.float64)
    reached = counts.cumsum(-1)
    total = reached[..., -1]
    target = level * total
    # The first bin that is not empty and reaches the target.
    bin_ = np.argmax((reached >= target[..., None]) & (counts > 0), axis=-1)[..., None]
    inside = np.take_along_axis(counts, bin_, -1)[..., 0]
    before = np.take_along_axis(reached, bin_, -1)[..., 0] - inside
    part = np.divide(target - before, inside, out=np.zeros(total.shape), where=inside > 0)
    left, right = edges[bin_[..., 0]], edges[bin_[..., 0] + 1]
    return np.where(total > 0, left + np.clip(part, 0, 1) * (right - left), np.nan)
