"""Which tokens count in which layers of a trace."""

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.stats import counted_rows
from mixtral_probe.trace import Trace

Mask = NDArray[np.bool_]


def layer_tokens(trace: Trace, include_special: bool) -> list[tuple[tuple[int, ...], Mask]]:
    """Return layers, as rows of the trace's arrays, with the mask [T] of the tokens that count in them.

    Of a whole trace the same tokens count in every layer; of a selection those that went to an expert in the layer, so
    that layers may differ.
    """
    counted = counted_rows(trace, include_special)
    if trace.where is None:
        return [(tuple(range(trace.num_layers)), counted)]
    layers: dict[bytes, list[int]] = {}
    for layer in range(trace.num_layers):
        chosen = np.asarray(trace.expert_ids[layer, :, 0]) >= 0
        layers.setdefault((counted & chosen).tobytes(), []).append(layer)
    return [(tuple(rows), np.frombuffer(mask, np.bool_)) for mask, rows in layers.items()]
