"""Clocks for timing work: the host's, and events in the line of work of an accelerator."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch


class Clock(Protocol):
    """Marks moments cheaply while work goes on, and tells afterwards how far they lie apart."""

    name: str

    def mark(self) -> Any:
        """This moment in the line of work."""
        ...

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] float64: seconds since the first of the marks; waits until all are reached."""
        ...


class HostClock:
    """For a CPU, which has done its work when a call returns."""

    name = "host clock"

    def mark(self) -> int:
        """Nanoseconds on the host's monotonic clock."""
        return time.perf_counter_ns()

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] since the first."""
        return (np.array(marks, np.int64) - marks[0]) / 1e9


class DeviceClock:
    """For an accelerator of any kind: events recorded in its current stream, so that the host never waits for it."""

    name = "device events"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def mark(self) -> torch.Event:
        """An event behind all work queued so far."""
        event = torch.Event(self._device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self._device))
        return event

    def seconds(self, marks: Sequence[Any]) -> np.ndarray:
        """[marks] since the first, once the device has reached them all."""
        torch.accelerator.synchronize(self._device)
        return np.array([marks[0].elapsed_time(mark) for mark in marks]) / 1e3


def clock_for(device: torch.device) -> Clock:
    """The clock of work that is done on this device."""
    return HostClock() if device.type == "cpu" else DeviceClock(device)
