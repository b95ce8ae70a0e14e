"""When the work for each site, layer and expert began and ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.instruments.clocks import Clock
from mixtral_probe.model import ForwardContext, Instrument, Routing, Site
from mixtral_probe.model.sites import MODEL

FORWARD = "forward"
"""The place of a whole pass, beside those named by sites."""


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of work."""

    place: str
    """The site whose value was made, or ``FORWARD``."""
    layer: int
    """−1 where it belongs to none."""
    expert: int
    """−1 where it belongs to none."""
    parent: int
    """Number of the span it lies in, −1 for none."""


class Spans(Instrument):
    """Notes the spans of forward calls in the order they open; what is measured at both ends is up to ``mark``."""

    def __init__(self, mark: Callable[[], Any]) -> None:
        self.spans: list[Span] = []
        self.opened: list[Any] = []
        """What ``mark`` said when each opened."""
        self.closed: list[Any] = []
        self._mark = mark
        self._open = [-1]

    def span(self, site: Site | str, layer: int = MODEL, expert: int | None = None) -> AbstractContextManager[Any]:
        """A context to be open during the work."""
        return _Open(self, Span(str(site), layer, -1 if expert is None else expert, self._open[-1]))

    def open(self, span: Span) -> int:
        """Begin a span; its number."""
        number = len(self.spans)
        self.spans.append(span)
        self._open.append(number)
        self.closed.append(None)
        self.opened.append(self._mark())
        return number

    def close(self, number: int) -> None:
        """End a span."""
        self.closed[number] = self._mark()
        self._open.pop()


class _Open(AbstractContextManager[None]):
    __slots__ = ("_number", "_span", "_spans")

    def __init__(self, spans: Spans, span: Span) -> None:
        self._spans, self._span = spans, span

    def __enter__(self) -> None:
        self._number = self._spans.open(self._span)

    def __exit__(self, *_: object) -> None:
        self._spans.close(self._number)


class Timer(Spans):
    """Times forward calls, and counts the rows that each expert was given; it changes no value.

    Args:
        clock: where the time is read.
    """

    sites = (Site.ROUTING,)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.mark)
        self._clock = clock
        self._routed: list[tuple[int, Tensor]] = []

    def visit(self, site: Site, layer: int, value: Routing, context: ForwardContext) -> Routing:
        """Note who takes the rows, and return the routing unchanged."""
        self._routed.append((layer, value.expert_ids))
        return value

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """[spans] float64 each: when every span began, in seconds since the first did, and how long it took."""
        moments = self._clock.seconds([*self.opened, *self.closed])
        start, end = np.split(moments, 2)
        return start, end - start

    def rows(self, num_layers: int, num_experts: int) -> np.ndarray:
        """[L, E] int64: rows that each expert was given; padding is a row too."""
        counts = np.zeros((num_layers, num_experts), np.int64)
        for layer, expert_ids in self._routed:
            found = torch.bincount(expert_ids.flatten() + 1, minlength=num_experts + 1)  # first those of nobody
            counts[layer] += found[1:].cpu().numpy()
        return counts


class NvtxRanges(Spans):
    """Names every span to NVIDIA's profilers, which then show them beside the kernels.

    Raises:
        InputError: this torch was not built for NVIDIA devices.
    """

    def __init__(self, push: Callable[[str], Any] | None = None, pop: Callable[[], Any] | None = None) -> None:
        super().__init__(lambda: None)
        if push is None and not torch.cuda.is_available():
            raise InputError(
                "NVTX ranges need a torch built for CUDA and an NVIDIA device, got none here; leave nvtx out"
            )
        self._push, self._pop = push or torch.cuda.nvtx.range_push, pop or torch.cuda.nvtx.range_pop

    def open(self, span: Span) -> int:
        """Push the range."""
        layer = "" if span.layer == MODEL else f" layer {span.layer}"
        self._push(span.place + layer + ("" if span.expert < 0 else f" expert {span.expert}"))
        return -1

    def close(self, number: int) -> None:
        """Pop it."""
        self._pop()
