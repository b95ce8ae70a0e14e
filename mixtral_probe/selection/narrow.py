"""A trace reduced to a selection."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mixtral_probe.selection.mask import mask
from mixtral_probe.selection.parse import Expression
from mixtral_probe.trace import Trace


def select(trace: Trace, where: str | Expression, slices: Mapping[str, str] | None = None) -> Trace:
    """Return the same trace in memory without experts wherever a token in a layer is not selected.

    Rows, documents and layers keep their numbers, and every table leaves out what went to no expert. Attention, which
    was summed over all tokens while running, is left out.

    Args:
        trace: the trace.
        where: an expression, such as `layer in 8..15 and token.is_digit`.
        slices: what `@name` means in it, in addition to `SLICES`.

    Raises:
        SelectionError: the expression breaks the grammar, or names what the trace lacks.
    """
    selected = mask(trace, where, slices)[..., None]
    text = where if isinstance(where, str) else where.text
    weights = trace.expert_weights
    return replace(
        trace,
        expert_ids=np.where(selected, trace.expert_ids, np.int16(-1)),
        expert_weights=None if weights is None else np.where(selected, weights, np.float32(0)),
        attention_record=None,
        path=None,
        where=text if trace.where is None else f"({trace.where}) and ({text})",
    )
