"""Groups of documents by a label, and the group "all", their sum."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.trace import Trace

ALL = "all"
"""The group of every document."""
LABEL = "domain"
"""The label that statistics are grouped by where documents have it."""
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
    names = group_names(trace.documents[by])
    if ALL in names:
        raise InputError(f'no label may have the value "all", the group of every document, got it in {by!r}; rename it')
    groups = tuple(sorted(set(names)))
    return groups, np.array([groups.index(name) for name in names], np.intp)


def group_names(labels: pd.Series) -> list[str]:
    """[documents] the name of each document's group, of the values of a label."""
    values = labels.astype(object)
    return [str(name) for name in values.where(values.notna(), UNLABELLED)]


def require_groups(documents: pd.DataFrame) -> None:
    """Raise InputError where statistics of these documents would be refused, so that no run begins in vain."""
    if LABEL in documents and ALL in (names := group_names(documents[LABEL])):
        raise InputError(
            f'no {LABEL} may be "all", which is the group of every document, got it for the document '
            f"{documents['id'].iloc[names.index(ALL)]!r}; rename it"
        )


def with_all(sums: NDArray[Any], by: str | None, axis: int = 1) -> NDArray[Any]:
    """Append the group "all", the sum of the groups, to sums [..., G, ...] unless it is the only group.

    Args:
        sums: of each group.
        by: the label that the groups come from; None for the one group "all".
        axis: that of the groups.
    """
    return sums if by is None else np.concatenate([sums, sums.sum(axis, keepdims=True)], axis=axis)
