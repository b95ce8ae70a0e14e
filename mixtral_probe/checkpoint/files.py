"""A file of weights and its tensors."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mixtral_probe.checkpoint.native import TorchFile
from mixtral_probe.errors import InputError
from mixtral_probe.json_files import MOST_BYTES
from mixtral_probe.paths import refuse_pointer
from mixtral_probe.reading import require_file


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor in a file."""

    file: Path
    name: str
    """Its name in the file."""
    shape: tuple[int, ...]
    dtype: str
    """In the notation of safetensors: F32, BF16, …"""


def open_file(path: Path) -> Any:
    """A context manager over an opened file, safetensors or torch's.

    Raises:
        InputError: it is missing or not whole.
    """
    try:
        require_file(path)
        refuse_pointer(path)
        return safe_open(path, framework="pt", device="cpu") if path.suffix == ".safetensors" else TorchFile(path)
    except FileNotFoundError:
        raise InputError(f"the weights file {path.name} is missing from {path.parent}; download it again") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} must be a whole safetensors file, got {_content(path, error)}; download or copy it again"
        ) from None


def tensors_in(path: Path) -> list[StoredTensor]:
    """The tensors of one file."""
    with open_file(path) as file:
        parts = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118 (not a dict)
        return [StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype()) for name, part in parts]


def equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors have the same shape and the same values."""
    if one.shape != other.shape:
        return False
    with open_file(one.file) as first, open_file(other.file) as second:
        left, right = first.get_tensor(one.name), second.get_tensor(other.name)
    return torch.equal(left, right) if left.dtype == right.dtype else torch.equal(left.double(), right.double())


def _content(path: Path, error: Exception) -> str:
    """What a broken file holds: fewer bytes than its header says, or no header."""
    if not path.is_file():
        return "a folder" if path.is_dir() else str(error)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = file.read(length) if 0 < length <= MOST_BYTES else b""
    if 0 < length <= MOST_BYTES and len(header) < length:
        return f"{size:,} bytes, which end within the header of {length:,}"
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        needed = 8 + length + max(ends, default=0)
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return f"{size:,} bytes of something else ({error})"
    return f"{size:,} of its {needed:,} bytes" if size < needed else f"a contradiction in its header ({error})"
