"""Timers of the work for each site, layer and expert."""

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
"""The place of a whole pass; other places are named by sites."""


@dataclass(frozen=True, slots=True)
class Span:
    """The work for one value."""

    place: str
    """The site of the value, or ``FORWARD``."""
    layer: int
    """−1 for none."""
    expert: int
    """−1 for none."""
    parent: int
    """Number of the enclosing span, −1 for none."""


class Spans(Instrument):
    """Records the spans of forward calls in the order they open, with ``mark()`` at both ends."""

    def __init__(self, mark: Callable[[], Any]) -> None:
        self.spans: list[Span] = []
        self.opened: list[Any] = []
        """``mark()`` at the beginning of each."""
        self.closed: list[Any] = []
        self._mark = mark
        self._open = [-1]

    def span(self, site: Site | str, layer: int = MODEL, expert: int | None = None) -> AbstractContextManager[Any]:
        """Return a context to be open during the work."""
        return _Open(self, Span(str(site), layer, -1 if expert is None else expert, self._open[-1]))

    def open(self, span: Span) -> int:
        """Begin a span and return its number."""
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
    """Times forward calls, and counts the rows of each expert; it changes no value.

    Args:
        clock: measures the time.
    """

    sites = (Site.ROUTING,)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.mark)
        self._clock = clock
        self._routed: list[tuple[int, Tensor]] = []

    def visit(self, site: Site, layer: int, value: Routing, context: ForwardContext) -> Routing:
        """Record the choice, and return it unchanged."""
        self._routed.append((layer, value.expert_ids))
        return value

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """[spans] float64 each: the beginning of every span, in seconds since that of the first, and its duration."""
        moments = self._clock.seconds([*self.opened, *self.closed])
        start, end = np.split(moments, 2)
        return start, end - start

    def rows(self, num_layers: int, num_experts: int) -> np.ndarray:
        """[L, E] int64: rows of each expert, padding included."""
        counts = np.zeros((num_layers, num_experts), np.int64)
        for layer, expert_ids in self._routed:
            num_unassigned_and_counts = torch.bincount(expert_ids.flatten() + 1, minlength=num_experts + 1)
            counts[layer] += num_unassigned_and_counts[1:].cpu().numpy()
        return counts


class NvtxRanges(Spans):
    """Makes every span an NVTX range, which NVIDIA's profilers show with the kernels.

    Raises:
        InputError: there is no NVIDIA device, or torch does not support them.
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
        """Pop the range."""
        self._pop()
