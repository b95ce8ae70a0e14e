"""Named arrays and a few names in one safetensors file, written whole or not at all. No pickle.

A version is a set of sums. Version 4 lacks some of version 5, which are then missing; earlier files are rejected.
Of sums by group and block, a file has only the cells that occur: most documents belong to one group.
"""

import json
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_bytes
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import one_sentence
from mixtral_probe.trace.fingerprint import fingerprint

FORMAT = "mixtral-probe routing stats"
VERSION = 5
READABLE = (4, VERSION)
CONTENT, TRACE = "content", "trace"
"""Entries of the header: a hash of all else, and the fingerprint of the trace, where there is one."""


def write(
    path: str | PathLike[str], names: dict[str, Any], arrays: dict[str, NDArray[Any]], of: str | None = None
) -> None:
    """Write one file, whole or not at all; `names` must be JSON values, `of` the fingerprint of a trace."""
    header = {FORMAT: json.dumps(names | {"version": VERSION})}
    header |= {CONTENT: _digest(header[FORMAT], arrays)} | ({} if of is None else {TRACE: of})
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, header))


def read(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the names, with "version" among them, and arrays that `write` wrote. Raises InputError for anything else."""
    if not checked_path(path).is_file():
        raise InputError(f"statistics are read from a file, got none at {path}")
    with one_sentence("statistics must be a whole file of mixtral-probe", path, "save them again"):
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            names = json.loads(header.get(FORMAT, "{}"))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if not isinstance(names, dict):
            raise ValueError(f"names that are a {type(names).__name__}")
    if (version := names.get("version")) not in READABLE:
        actual = "another kind of file" if version is None else f"version {version}"
        raise InputError(
            f"{path} must be a statistics file of mixtral-probe, version {READABLE[0]} or {VERSION}, got {actual}; "
            "make the statistics from the trace with RoutingStats.from_trace and save them again"
        )
    if CONTENT in header and header[CONTENT] != _digest(header[FORMAT], arrays):
        raise InputError(f"{path} must be as it was written, got other content; make the statistics again")
    return names, arrays


def trace_of(path: str | PathLike[str]) -> str | None:
    """Return the fingerprint of the trace that a statistics file is of; None where it has none."""
    with safe_open(path, framework="numpy") as file:
        return (file.metadata() or {}).get(TRACE)


def _digest(names: str, arrays: dict[str, NDArray[Any]]) -> str:
    return fingerprint(names, *(part for name in sorted(arrays) for part in (name, arrays[name])))


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return non-negative integers [...] in the smallest unsigned type that fits them all, floats as they are."""
    return array if array.dtype.kind == "f" else array.astype(np.min_scalar_type(int(array.max(initial=0))))


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """Return what `narrow` made small as int64 [...], other arrays as they are."""
    return array.astype(np.int64) if array.dtype.kind == "u" else array


def occurring_cells(tokens: NDArray[np.int64]) -> NDArray[np.intp]:
    """[C] the cells group * Bk + block with tokens, of tokens [L, G, Bk] by layer, group and block."""
    return np.flatnonzero(tokens.any(0))


def of_cells(array: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """[L, C, ...] those cells of sums [L, G, Bk, ...]."""
    layers, groups, blocks, *tail = array.shape
    return array.reshape(layers, groups * blocks, *tail)[:, cells]


def spread(array: NDArray[Any], cells: NDArray[Any], groups: int, blocks: int) -> NDArray[Any]:
    """[L, G, Bk, ...] the sums of which `of_cells` took some; the others are 0."""
    out = np.zeros((len(array), groups * blocks, *array.shape[2:]), array.dtype)
    out[:, cells] = array
    return out.reshape(len(array), groups, blocks, *array.shape[2:])
