"""One `.safetensors` file whose sizes are known in advance: created at full size, then filled in place.

The format (https://github.com/huggingface/safetensors): 8 bytes, little-endian, length of the header;
the header, JSON, padded with spaces to a multiple of 8; then the tensors, row-major, without gaps.
"""

import json
import mmap
import operator
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mixtral_probe.errors import InputError
from mixtral_probe.files import allocate
from mixtral_probe.reading import one_sentence, require_file

DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2"}
DTYPES |= {"U16": "<u2", "U32": "<u4", "U64": "<u8", "F32": "<f4", "F64": "<f8"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
MAX_HEADER = 100_000_000  # bytes; readers refuse more

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name → (numpy dtype code such as "<f2", shape)."""


def header_bytes(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """Return the beginning of the file, up to the first tensor. Raises InputError past the format's 100 MB."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (code, shape) in layout.items():
        end = offset + prod(shape) * np.dtype(code).itemsize
        entries[name] = {"dtype": NAMES[np.dtype(code)], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise InputError(
            f"one safetensors file can name about a million tensors, got {len(layout):,}; "
            "ask for fewer layers or split the documents over several traces"
        )
    return len(text).to_bytes(8, "little") + text


def create(path: Path, layout: Layout, metadata: Mapping[str, str]) -> "TensorFile":
    """Create the whole file on disk, filled with zeros, and open it for writing."""
    header = header_bytes(layout, metadata)
    size = sum(prod(shape) * np.dtype(code).itemsize for code, shape in layout.values())
    allocate(path, len(header) + size)
    with path.open("r+b") as file:
        file.write(header)
    return TensorFile(path, writable=True)


class TensorFile:
    """A memory-mapped `.safetensors` file; `file[name]` is an array over the file's own bytes.

    Raises InputError, naming the file, when it is missing, cut short or not in the format.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        with one_sentence(f"{path.name} must be a whole safetensors file", path, "copy the whole folder again"):
            require_file(path)
            with path.open("r+b" if writable else "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
            self._read_header()

    def _read_header(self) -> None:
        length = int.from_bytes(self._map[:8], "little")
        self._start = 8 + length
        if length > MAX_HEADER or self._start > len(self._map):
            raise ValueError(f"a header of {length:,} bytes in {len(self._map):,}")
        header = json.loads(self._map[8 : self._start])
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self._places = {name: self._place(entry) for name, entry in header.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path: another process on this machine maps the same file."""
        return TensorFile, (self.path,)

    def _place(self, entry: dict[str, Any]) -> tuple[np.dtype, tuple[int, ...], int]:
        dtype = np.dtype(DTYPES[str(entry["dtype"])])
        shape = tuple(map(operator.index, entry["shape"]))
        begin, end = map(operator.index, entry["data_offsets"])
        if min(shape, default=0) < 0 or begin < 0 or end - begin != prod(shape) * dtype.itemsize:
            raise ValueError("a tensor's shape and place disagree")
        if self._start + end > len(self._map):
            raise ValueError(f"it is cut short at {len(self._map):,} bytes")
        return dtype, shape, begin

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, begin = self._places[name]
        return np.ndarray(shape, dtype, buffer=self._map, offset=self._start + begin)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def write_row(self, name: str, row: int, values: np.ndarray) -> None:
        """Write `file[name][row]` through the file, not its map: pages of a map take memory until it is unmapped."""
        dtype, shape, begin = self._places[name]
        data = np.ascontiguousarray(values, dtype)
        if data.shape != shape[1:]:
            raise ValueError(f"a row of {name} has the shape {shape[1:]}, got {data.shape}")
        with self.path.open("r+b") as file:
            file.seek(self._start + begin + row * data.nbytes)
            file.write(data.data)

    def flush(self) -> None:
        """Wait until what was written is on the disk."""
        self._map.flush()
