"""Which tokens a table is about, in words and as rows."""

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats import RoutingStats, counted_rows
from mixtral_probe.trace import Trace


def tokens_scope(source: Trace | RoutingStats, include_special: bool) -> str:
    """Say which tokens of a trace or of statistics are counted: special ones or not, and the selection's expression."""
    special = "all tokens" if include_special else "special tokens out"
    return special if source.where is None else f"{special}; where {source.where}"


def selected_rows(trace: Trace, include_special: bool) -> NDArray[np.bool_]:
    """[T] True for the tokens that are counted in some layer: in a selection, those that went to an expert in it."""
    counted = counted_rows(trace, include_special)
    return counted if trace.where is None else counted & (trace.expert_ids[..., 0] >= 0).any(0)
