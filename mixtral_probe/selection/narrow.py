"""A trace with nothing but what is selected."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mixtral_probe.selection.mask import mask
from mixtral_probe.selection.parse import Expression
from mixtral_probe.trace import Trace


def select(trace: Trace, where: str | Expression, slices: Mapping[str, str] | None = None) -> Trace:
    """The same trace in memory with no expert where a token in a layer is not meant, as if it had been routed nowhere.

    Rows, documents and layers keep their numbers, and every table leaves out what went to no expert. Attention, which
    was summed over all tokens while running, is left out.

    Args:
        trace: the trace.
        where: an expression, such as `layer in 8..15 and token.is_digit`.
        slices: what `@name` means in it, beside the slices that everybody has.

    Raises:
        SelectionError: the expression breaks the grammar, or names what the trace lacks.
    """
    kept = mask(trace, where, slices)[..., None]
    text = where if isinstance(where, str) else where.text
    weights = trace.expert_weights
    return replace(
        trace,
        expert_ids=np.where(kept, trace.expert_ids, np.int16(-1)),
        expert_weights=None if weights is None else np.where(kept, weights, np.float32(0)),
        attention_record=None,
        path=None,
        where=text if trace.where is None else f"({trace.where}) and ({text})",
    )
