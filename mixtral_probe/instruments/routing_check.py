"""Whether the routing of a forward call is finite: flags stay on the device until the values of the call are read."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model import ForwardContext, Instrument, Routing, Site


def nonfinite_routing(routing: Routing, edited: bool) -> Tensor:
    """[T] bool, on the device of the routing: the rows whose weights, or unedited router logits, are not finite.

    Args:
        routing: of one layer.
        edited: whether edits are attached, which mask experts with logits of −infinity.
    """
    bad = ~routing.weights.isfinite().all(-1)
    return bad if edited or len(routing.logits) != len(bad) else bad | ~routing.logits.isfinite().all(-1)


def nonfinite_error(layer: int, token: str, dtype: str, *, can_skip: bool) -> InputError:
    """Return the error for a call whose routing is not finite.

    Args:
        layer: the first of them.
        token: the first of that layer, in words.
        dtype: of the computation, such as "float16".
        can_skip: whether the run has the option ``nonfinite``.
    """
    remedy = {
        "float16": "run in bfloat16 or float32, whose range is larger",
        "bfloat16": "run in float32, or check the weights and the edits",
    }.get(dtype, "check the weights and the edits")
    skip = ", or leave such tokens without a choice with nonfinite='skip' (--nonfinite skip)" if can_skip else ""
    return InputError(
        f"routing must be finite, got router logits or weights in layer {layer} that are NaN or infinite, first for "
        f"{token}, computed in {dtype}; {remedy}{skip}"
    )


class _Window(Protocol):
    @property
    def document(self) -> int: ...

    @property
    def chunk(self) -> int: ...

    @property
    def length(self) -> int: ...


class RoutingCheck(Instrument):
    """Notes the rows of a call whose routing is not finite; attached after the edits. Call ``require`` after the call.

    Args:
        edited: whether edits are attached.
    """

    sites = (Site.ROUTING,)

    def __init__(self, edited: bool) -> None:
        self._edited = edited
        self._bad: dict[int, Tensor] = {}

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Note the rows, and return the value unchanged."""
        self._bad[layer] = nonfinite_routing(value, self._edited)
        return value

    def require(self, windows: Sequence[_Window], positions: int, dtype: torch.dtype) -> None:
        """Raise InputError unless the routing of every token of a batch is finite, naming the first layer and token.

        Args:
            windows: the window of each batch row; rows beyond them are copies of the batch.
            positions: S of the call; those beyond the length of a window are padding.
            dtype: of the computation.
        """
        if not self._bad:
            return
        device = next(iter(self._bad.values())).device
        flags = torch.stack([layer.to(device) for layer in self._bad.values()]).cpu()  # [L, copies · B · S]
        bad = flags.unflatten(1, (-1, len(windows), positions)).any(1).numpy()
        bad = bad & (np.arange(positions) < np.array([window.length for window in windows])[:, None])
        if bad.any():
            layer, row, position = (int(place) for place in np.argwhere(bad)[0])
            window = windows[row]
            token = f"position {position} of window {window.chunk} of document {window.document}"
            name = str(dtype).removeprefix("torch.")
            raise nonfinite_error(list(self._bad)[layer], token, name, can_skip=False)
