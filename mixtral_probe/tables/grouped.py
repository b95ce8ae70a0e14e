"""The sums of statistics by layer and group, with the group "all" after the groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtral_probe.stats import ALL, RoutingStats, Sums, with_all
from mixtral_probe.tables.leave_one_out import ANY, Bounds, Estimate, estimate
from mixtral_probe.tables.scope import tokens_scope

Floats = NDArray[np.float64]
Statistic = Callable[[Sums], Floats]


@dataclass(frozen=True)
class GroupedSums:
    """The sums of statistics by group and block, with the group "all" last."""

    stats: RoutingStats
    groups: tuple[str, ...]
    """[G] the groups, then "all"."""
    total: Sums
    """[L, G, ...]"""
    deleted: Sums
    """[L, G, Bk, ...] with one block left out."""
    sizes: NDArray[np.int64]
    """[L, G, Bk] tokens per block."""

    @classmethod
    def of(cls, stats: RoutingStats) -> "GroupedSums":
        """Return the sums of statistics; the group "all" is the sum of the groups."""
        groups = stats.groups if stats.by is None else (*stats.groups, ALL)
        every = replace(
            stats, groups=groups, sums=stats.sums.map(lambda sums: with_all(sums, stats.by)), histogram=None
        )
        return cls(stats, groups, every.total(), every.without_block(), every.sums.tokens)

    @property
    def tokens_scope(self) -> str:
        """The tokens that were counted, in words."""
        return tokens_scope(self.stats, self.stats.include_special)

    def keys(self, **more: ArrayLike) -> dict[str, Any]:
        """Return the keys layer [L, 1, ...] and group [G, ...], which broadcast with the axes of `more` after them."""
        tail = (1,) * len(more)
        layer = np.array(self.stats.layers).reshape(-1, 1, *tail)
        group = np.array(self.groups, dtype=object).reshape(-1, *tail)
        values = [np.asarray(values) for values in more.values()]
        grids = {
            name: value.reshape([-1 if axis == place else 1 for axis in range(len(values))])
            for place, (name, value) in enumerate(zip(more, values, strict=True))
        }
        return {"layer": layer, "group": group} | grids

    def estimate(
        self,
        statistic: Statistic,
        *,
        bounds: Bounds = ANY,
        sizes: NDArray[np.int64] | None = None,
        curvature: float = 0.0,
    ) -> Estimate:
        """Return a statistic with its interval: [L, G, tail] of sums [L, G, ...], [L, G, Bk, tail] of [L, G, Bk, ...].

        A statistic without the axis of layers or groups needs `sizes`, the tokens per block without that axis.
        """
        sizes = self.sizes if sizes is None else sizes
        return estimate(
            statistic(self.total),
            statistic(self.deleted),
            sizes,
            folded=self.stats.folded,
            bounds=bounds,
            curvature=curvature,
        )


def estimate_of_groups(
    value: Floats,
    deleted: Floats,
    sizes: NDArray[np.int64],
    *,
    folded: bool,
    bounds: Bounds = ANY,
    essential: Sequence[int] = (),
    curvature: float = 0.0,
) -> Estimate:
    """Return a value of several groups, whose shares of the tokens are held fixed, with its interval.

    Every group is a stratum of the jackknife, as in a corpus that was put together by topic.

    Args:
        value: [L, tail] the formula of all blocks.
        deleted: [L, G, Bk, tail] the formula with one block of one group left out and the groups' shares as before.
        sizes: [L, G, Bk] tokens per block.
        folded, bounds, essential, curvature: as in `leave_one_out.estimate`.
    """
    layers, groups, blocks = sizes.shape
    less, tokens = deleted.reshape(layers, groups * blocks, *deleted.shape[3:]), sizes.reshape(layers, groups * blocks)
    strata = np.repeat(np.arange(groups), blocks)
    own: dict[str, Any] = {"strata": strata, "essential": essential, "quantiles": "own", "curvature": curvature}
    return estimate(value, less, tokens, folded=folded, bounds=bounds, **own)
