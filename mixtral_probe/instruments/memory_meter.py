"""How much memory the work for each site takes: bytes of tensors alive, counted where torch makes them."""

import weakref
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixtral_probe.instruments.timer import Span, Spans


class MemoryMeter(Spans):
    """Counts, while it is open as a context, the bytes of tensors made inside and not yet freed, on any device.

    Weights and inputs were there before and do not count, and neither does the workspace inside a kernel. It sees every
    operation of this thread and so slows it down: never time a call while one is open.
    """

    def __init__(self) -> None:
        super().__init__(lambda: self._alive)
        self._alive = 0
        self._peaks = [0]
        self._found: list[int] = []
        self._mode = _Watching(self)

    def __enter__(self) -> "MemoryMeter":
        self._mode.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._mode.__exit__(*failure)

    def open(self, span: Span) -> int:
        """Begin a span, whose peak starts at what is alive now."""
        self._peaks.append(self._alive)
        self._found.append(0)
        return super().open(span)

    def close(self, number: int) -> None:
        """End a span; its peak counts for the one around it too."""
        peak = self._peaks.pop()
        self._found[number] = peak - self.opened[number]
        self._peaks[-1] = max(self._peaks[-1], peak)
        super().close(number)

    def peaks(self) -> np.ndarray:
        """[spans] int64: the most bytes alive during each span beyond those alive when it began."""
        return np.array(self._found, np.int64)

    def add(self, change: int) -> None:
        """Bytes made, or freed where negative."""
        self._alive += change
        self._peaks[-1] = max(self._peaks[-1], self._alive)


class _Watching(TorchDispatchMode):
    """Tells a meter of every storage that is made and freed."""

    def __init__(self, meter: MemoryMeter) -> None:
        super().__init__()
        self._meter = meter
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):  # what comes in without having been made here was there before
            self._know(storage, 0)
        made = func(*args, **kwargs)
        for storage in _storages(made):
            self._know(storage, storage.nbytes())
        return made

    def _know(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)
        if key in self._known:
            return

        def freed(_: Any) -> None:
            del self._known[key]
            self._meter.add(-size)

        self._known[key] = weakref.ref(storage, freed)
        self._meter.add(size)


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
