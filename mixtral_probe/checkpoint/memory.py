"""Memory checks before a model is allocated."""

import os
from pathlib import Path

import torch

from mixtral_probe.errors import InputError

_CGROUP = Path("/sys/fs/cgroup")


def require_memory(parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise InputError if the parameters do not fit into free memory; do nothing where that is unknown."""
    needed, free = parameters * dtype.itemsize, available_bytes(device)
    if free is None or needed <= free:
        return
    advice = "use a larger machine" if dtype.itemsize <= 2 else "use dtype='bfloat16', a larger machine"
    raise InputError(
        f"the weights must fit into memory, but {parameters / 1e9:.2f} billion parameters in "
        f"{str(dtype).removeprefix('torch.')} take {needed / 1e9:.2f} GB and {device} has {free / 1e9:.2f} GB free; "
        f"{advice}, or device='meta' to see the model without its weights"
    )


def available_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    known = [size for size in (_free_on_machine(), _free_in_container()) if size is not None]
    return min(known) if known else None


def _free_on_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _free_in_container() -> int | None:
    """Bytes below the limit of the cgroup; file cache counts as free, since the kernel releases it."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())["anon"]
    except (OSError, ValueError, KeyError):
        return None
    return max(0, limit - int(used))
