"""Arguments for dtype, device and size, converted to those of torch."""

import re

import torch

from mixtral_probe.errors import InputError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Dtypes in the notation of safetensors."""
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def as_dtype(name: str | torch.dtype) -> torch.dtype:
    """``"float32"`` → ``torch.float32``.

    Raises:
        InputError: it is not a dtype of weights.
    """
    dtype = DTYPES.get(name, name) if isinstance(name, str) else name
    if dtype not in DTYPES.values():
        raise InputError(f"dtype must be one of {', '.join(DTYPES)} or auto, got {name!r}")
    return dtype  # type: ignore[return-value]


def as_device(name: str | int | torch.device) -> torch.device:
    """``"cuda:0"``, or the number of an accelerator, → a device of this machine.

    Raises:
        InputError: this machine has no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device {str(name)!r} cannot be used on this machine ({reason}); 'cpu' always can") from None
    return device


def as_bytes(size: int | str | None) -> int | None:
    """``"5GB"`` → 5,000,000,000; None, for no limit, stays None.

    Raises:
        InputError: it is not a positive size.
    """
    if size is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    number = float(match[1]) * _UNITS.get(match[2].upper(), 0) if match else 0
    if number < 1:
        raise InputError(f"max_shard_size must be a number of bytes, or a text such as '5GB' or '500MB', got {size!r}")
    return int(number)
