"""Bringing values from the model's device to the host without making the forward pass wait."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Write = Callable[[Tensor], None]


class Copier(Protocol):
    """Hands host copies of tensors to whoever wants to write them down, now or later."""

    def copy(self, value: Tensor, write: Write) -> None:
        """Arrange that ``write`` is called with a host copy of ``value`` as it is now; ``finish`` at the latest."""
        ...

    def finish(self) -> None:
        """Return when every copy was written."""
        ...


class HostCopier:
    """For values that are on the host already: they are written at once."""

    def copy(self, value: Tensor, write: Write) -> None:
        """Write the value itself."""
        write(value.detach())

    def finish(self) -> None:
        """Nothing is outstanding."""


class StreamCopier:
    """For accelerators: on each, a second stream copies into pinned memory, and the host writes what has arrived.

    The source is kept alive until its copy is done, and never written to by the model: sites hand out fresh tensors,
    not the call's reused buffers.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.Stream] = {}
        self._waiting: list[tuple[torch.Event, Tensor, Tensor, Write]] = []

    def copy(self, value: Tensor, write: Write) -> None:
        """Queue the copy behind what the forward pass has queued so far; what is on the host is written at once."""
        value = value.detach()
        if value.device.type == "cpu":
            return write(value)
        if value.device not in self._streams:
            self._streams[value.device] = torch.Stream(value.device)
        stream = self._streams[value.device]
        stream.wait_stream(torch.accelerator.current_stream(value.device))
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        with stream:
            host.copy_(value, non_blocking=True)
            done = torch.Event()
            done.record(stream)
        self._waiting.append((done, value, host, write))
        self._write_arrived()

    def finish(self) -> None:
        """Wait for the outstanding copies and write them."""
        for stream in self._streams.values():
            stream.synchronize()
        self._write_arrived()

    def _write_arrived(self) -> None:
        while self._waiting and self._waiting[0][0].query():
            _, _, host, write = self._waiting.pop(0)
            write(host)


def copier_for(device: torch.device) -> Copier:
    """The copier for values made on this device, and, where there are accelerators, on any other."""
    return StreamCopier() if torch.accelerator.is_available() or device.type != "cpu" else HostCopier()
