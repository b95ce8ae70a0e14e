"""Copies of values from the model's device to the host, for which the forward pass does not wait."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Write = Callable[[Tensor], None]


class Copier(Protocol):
    """Passes host copies of tensors to a function, now or later."""

    def copy(self, value: Tensor, write: Write) -> None:
        """Call ``write`` with a host copy of the present ``value``, in ``finish`` at the latest."""
        ...

    def finish(self) -> None:
        """Return once every copy is written."""
        ...


class HostCopier:
    """The copier of values on the host, which are written at once."""

    def copy(self, value: Tensor, write: Write) -> None:
        """Write the value itself."""
        write(value.detach())

    def finish(self) -> None:
        """Return: no copy is pending."""


class StreamCopier:
    """The copier for accelerators: a second stream of each copies to pinned memory; the host writes completed copies.

    Each tensor is referenced until its copy is complete. The model does not write to it: values of sites are never the
    reused buffers of the call.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.Stream] = {}
        self._pending: list[tuple[torch.Event, Tensor, Tensor, Write]] = []

    def copy(self, value: Tensor, write: Write) -> None:
        """Queue the copy after the work queued so far; write a value on the host at once."""
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
        self._pending.append((done, value, host, write))
        self._write_completed()

    def finish(self) -> None:
        """Wait for the pending copies and write them."""
        for stream in self._streams.values():
            stream.synchronize()
        self._write_completed()

    def _write_completed(self) -> None:
        while self._pending and self._pending[0][0].query():
            _, _, host, write = self._pending.pop(0)
            write(host)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values of the host on a device, by a copy that the host does not wait for."""
    if device.type == "cpu" or not torch.accelerator.is_available():
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def copier_for(device: torch.device) -> Copier:
    """Return the copier of values on this device; if accelerators are available, of values on any device."""
    return StreamCopier() if torch.accelerator.is_available() or device.type != "cpu" else HostCopier()
