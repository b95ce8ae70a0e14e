"""Memory of the work for each site: bytes of allocated tensors."""

import weakref
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixtral_probe.instruments.timer import Span, Spans


class MemoryMeter(Spans):
    """A context that counts the bytes of tensors allocated inside and not yet freed, on any device.

    Weights and inputs, which exist before, do not count, nor does the workspace of a kernel. Every operation of this
    thread becomes slower: do not time a call inside.
    """

    def __init__(self) -> None:
        super().__init__(lambda: self._allocated)
        self._allocated = 0
        self._peaks = [0]
        self._span_peaks: list[int] = []
        self._mode = _AllocationMode(self)

    def __enter__(self) -> "MemoryMeter":
        self._mode.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._mode.__exit__(*failure)

    def open(self, span: Span) -> int:
        """Begin a span, whose peak starts at the bytes allocated now."""
        self._peaks.append(self._allocated)
        self._span_peaks.append(0)
        return super().open(span)

    def close(self, number: int) -> None:
        """End a span; its peak also counts for the enclosing one."""
        peak = self._peaks.pop()
        self._span_peaks[number] = peak - self.opened[number]
        self._peaks[-1] = max(self._peaks[-1], peak)
        super().close(number)

    def peaks(self) -> np.ndarray:
        """[spans] int64: the peak of allocated bytes in each span, above those at its beginning."""
        return np.array(self._span_peaks, np.int64)

    def add(self, change: int) -> None:
        """Add allocated bytes; freed ones are negative."""
        self._allocated += change
        self._peaks[-1] = max(self._peaks[-1], self._allocated)


class _AllocationMode(TorchDispatchMode):
    """Reports every allocated and freed storage to a meter."""

    def __init__(self, meter: MemoryMeter) -> None:
        super().__init__()
        self._meter = meter
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):  # an unknown storage among the arguments was allocated before
            self._know(storage, 0)
        result = func(*args, **kwargs)
        for storage in _storages(result):
            self._know(storage, storage.nbytes())
        return result

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
