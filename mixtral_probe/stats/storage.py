"""Named arrays and a few names in one safetensors file, written whole or not at all. No pickle.

A version is a set of sums. Files of earlier versions lack some, so they are rejected and computed again from the trace.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_bytes

FORMAT = "mixtral-probe routing stats"
VERSION = 4


def write(path: str | PathLike[str], names: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write one file, whole or not at all; `names` must be JSON values."""
    header = {FORMAT: json.dumps(names | {"version": VERSION})}
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, header))


def read(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the names and arrays that `write` wrote. Raises InputError for anything else."""
    if not Path(path).is_file():
        raise InputError(f"statistics are read from a file, got none at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = json.loads((file.metadata() or {}).get(FORMAT, "{}"))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise InputError(f"{path} is not a statistics file of mixtral-probe: {error}") from None
    if (version := names.pop("version", None)) != VERSION:
        actual = "another kind of file" if version is None else f"version {version}"
        raise InputError(
            f"{path} must be a statistics file of mixtral-probe, version {VERSION}, got {actual}; "
            "make the statistics from the trace with RoutingStats.from_trace and save them again"
        )
    return names, arrays


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same non-negative integers [...] in the smallest unsigned type that fits them all."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))
