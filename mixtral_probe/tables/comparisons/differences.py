"""The difference of a metric between two samples of tokens, with its interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats import Sums
from mixtral_probe.tables.comparisons.statistics import Compared
from mixtral_probe.tables.leave_one_out import Bounds, Estimate, estimate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """The sums of a sample of tokens, by block of documents."""

    by_block: Sums
    """[..., Bk, ...]"""
    blocks: int
    """The axis of the blocks."""

    @property
    def total(self) -> Sums:
        """[...] of all blocks."""
        return self.by_block.map(lambda array: array.sum(self.blocks))

    @property
    def deleted(self) -> Sums:
        """[..., Bk, ...] with one block left out."""
        return self.by_block.map(lambda array: array.sum(self.blocks, keepdims=True) - array)


def paired(compared: Compared, one: Sample, other: Sample, bounds: Bounds, *, folded: bool) -> Estimate:
    """Return the difference, other less one, of two samples of tokens from the same documents.

    A block is left out of both at once. The documents of the sample that has fewer give the degrees of freedom.

    Args:
        compared: the metric.
        one: the first sample, with as many blocks as
        other: the second.
        bounds: the range of the difference.
        folded: whether a block may hold several documents.
    """
    value = compared.statistic(other.total) - compared.statistic(one.total)
    deleted = compared.statistic(other.deleted) - compared.statistic(one.deleted)
    sizes = [compared.tokens(sample.by_block) for sample in (one, other)]
    counts = [(size > 0).sum(one.blocks, keepdims=True) for size in sizes]
    fewer, either = np.where(counts[0] <= counts[1], *sizes), (sizes[0] > 0) | (sizes[1] > 0)
    return estimate(value, deleted, fewer, folded=folded, bounds=bounds, axis=one.blocks, left_out=either)


def independent(compared: Compared, one: Sample, other: Sample, bounds: Bounds, *, folded: bool) -> Estimate:
    """Return the difference, other less one, of two samples of tokens from different documents.

    A block is left out of its sample only; the two corrections and variances are added (Welch 1947).

    Args:
        compared, one, other, bounds, folded: as in `paired`.
    """
    first, second = (compared.statistic(sample.total) for sample in (one, other))
    axis = one.blocks
    deleted = (
        np.expand_dims(second, axis) - compared.statistic(one.deleted),
        compared.statistic(other.deleted) - np.expand_dims(first, axis),
    )
    sizes = [compared.tokens(sample.by_block) for sample in (one, other)]
    return estimate(
        second - first,
        np.concatenate(deleted, axis),
        np.concatenate(sizes, axis),
        folded=folded,
        bounds=bounds,
        axis=axis,
        strata=np.repeat([0, 1], [size.shape[axis] for size in sizes]),
        essential=(0, 1),
    )
