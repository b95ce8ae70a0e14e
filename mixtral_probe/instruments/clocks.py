"""Clocks: the host's, and events in the stream of an accelerator."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch


class Clock(Protocol):
    """Marks moments at low cost during the work, and measures the times between them afterwards."""

    name: str

    def mark(self) -> Any:
        """Return the current moment."""
        ...

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] float64: seconds since the first of the marks; waits for all of them."""
        ...


class HostClock:
    """The clock of a CPU, whose work is complete when a function returns."""

    name = "host clock"

    def mark(self) -> int:
        """Return nanoseconds on the host's monotonic clock."""
        return time.perf_counter_ns()

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] since the first."""
        return (np.array(marks, np.int64) - marks[0]) / 1e9


class DeviceClock:
    """The clock of any accelerator: events in its current stream, so that the host does not wait."""

    name = "device events"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.Event:
        """Return an event after all work queued so far."""
        event = torch.Event(self._device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self._device))
        return event

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] since the first; waits for the device."""
        torch.accelerator.synchronize(self._device)
        return np.array([marks[0].elapsed_time(mark) for mark in marks]) / 1e3


def clock_for(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return HostClock() if device.type == "cpu" else DeviceClock(device)
