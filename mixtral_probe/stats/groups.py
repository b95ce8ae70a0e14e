"""Groups of documents by a label, and the group "all", their sum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.trace import Trace

ALL = "all"
"""The group of every document."""
UNLABELLED = "(none)"
"""The group of documents that lack the label."""


def groups_of(trace: Trace, by: str | None) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Return the groups' names, ascending, and [documents] which of them each document belongs to.

    Args:
        trace: the trace.
        by: a label of its documents; None for the one group "all".

    Raises:
        InputError: there is no such label, or "all" is one of its values.
    """
    if not isinstance(trace, Trace):
        kind = type(trace).__name__
        raise InputError(f"statistics are of one trace, got a {kind}; open a folder with Trace.load, merge several")
    if by is None:
        return (ALL,), np.zeros(len(trace.documents), np.intp)
    if by not in trace.labels:
        known = ", ".join(trace.labels) or "none"
        raise InputError(f"by must be a label of the documents ({known}), got {by!r}")
    labels = trace.documents[by].astype(object)
    names = labels.where(labels.notna(), UNLABELLED).map(str).to_numpy(dtype=object)
    if ALL in names:
        raise InputError(f'no label may have the value "all", the group of every document, got it in {by!r}; rename it')
    groups = tuple(sorted(set(names)))
    return groups, np.array([groups.index(name) for name in names], np.intp)


def with_all(sums: NDArray[Any], by: str | None, axis: int = 1) -> NDArray[Any]:
    """Append the group "all", the sum of the groups, to sums [..., G, ...] unless it is the only group.

    Args:
        sums: of each group.
        by: the label that the groups come from; None for the one group "all".
        axis: that of the groups.
    """
    return sums if by is None else np.concatenate([sums, sums.sum(axis, keepdims=True)], axis=axis)
