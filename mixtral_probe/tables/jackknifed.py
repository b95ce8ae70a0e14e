"""Intervals of what is counted from the tokens of a trace anew, leaving out one block of documents at a time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtral_probe import stats
from mixtral_probe.tables.frame import Estimate, estimate
from mixtral_probe.trace import Trace

Places = NDArray[np.intp]
Counts = NDArray[np.int64]


class Blocks(NamedTuple):
    """Which block of documents some tokens are in; the same blocks as in `RoutingStats`."""

    of_token: Places
    """[n]"""
    number: int
    folded: bool
    """Whether a block may hold several documents."""
    strata: Places | None = None
    """[number] the group of each block, where each group has blocks of its own."""

    @classmethod
    def of(cls, trace: Trace, rows: Places) -> "Blocks":
        """The blocks of these rows of a trace."""
        blocks = stats.Blocks.of(trace.documents["id"])
        document = trace.tokens["document"].to_numpy()[rows]
        return cls(blocks.of_document[document], blocks.number, blocks.folded)

    @classmethod
    def of_groups(cls, trace: Trace, rows: Places, group: Places) -> "Blocks":
        """The same, apart for each group; group: [documents]."""
        plain = cls.of(trace, rows)
        cell = group[trace.tokens["document"].to_numpy()[rows]] * plain.number + plain.of_token
        cells, of_token = np.unique(cell, return_inverse=True)
        return cls(of_token, len(cells), plain.folded, cells // plain.number)


def estimate_of(
    formula: Callable[[Counts], float], count: Callable[[Places], Counts], blocks: Blocks, bounds: tuple[float, float]
) -> Estimate:
    """A formula of counts with its jackknife interval.

    Args:
        formula: of the counts of any tokens; it has to hold the shares of strata fixed.
        count: the counts of the tokens with these numbers; of several sets of tokens they add up.
        blocks: of the tokens.
        bounds: the range of the value.
    """
    order = np.argsort(blocks.of_token, kind="stable")
    sizes = np.bincount(blocks.of_token, minlength=blocks.number)
    parts = [count(rows) for rows in np.split(order, np.cumsum(sizes)[:-1])]
    total = sum(parts[1:], parts[0])
    deleted = np.array([formula(total - part) for part in parts])
    return estimate(np.asarray(formula(total)), deleted, sizes, blocks.folded, bounds, blocks.strata)


def without_interval(value: float) -> Estimate:
    """A value whose interval would not hold; its scope has to say why."""
    gone = np.full((), np.nan)
    return Estimate(np.asarray(value), gone, gone, np.full((), 2), folded=False)
