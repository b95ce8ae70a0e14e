"""The arrays of a run while they are filled: in memory, or at full size in a folder on disk."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixtral_probe import files
from mixtral_probe.errors import InputError
from mixtral_probe.trace.attention import attention_metadata
from mixtral_probe.trace.storage import tensor_file
from mixtral_probe.trace.storage.folder import ATTENTION, MARKER, create_array, map_array, read_json
from mixtral_probe.trace.storage.plan import RunPlan

RUN = "run"
"""Subfolder of the files that only the run needs; it is removed after the trace has its final name."""
PLAN = "plan.json"
FORMAT = "mixtral-probe unfinished trace"


@dataclass(frozen=True, eq=False)
class Workspace:
    """A run's writable arrays, all zero at the very start."""

    arrays: dict[str, np.ndarray]
    """The plan's arrays and scratch arrays by name."""
    attention: dict[str, np.ndarray] | tensor_file.TensorFile | None
    created: str
    """When the run first began."""

    def flush(self) -> None:
        """Wait until everything but the list of done documents is on the disk."""
        for name, array in self.arrays.items():
            if name != "done" and isinstance(array, np.memmap):
                array.flush()
        if isinstance(self.attention, tensor_file.TensorFile):
            self.attention.flush()

    def write_attention(self, name: str, row: int, values: np.ndarray) -> None:
        """Fill one row of a tensor of the attention."""
        if isinstance(self.attention, tensor_file.TensorFile):
            self.attention.write_row(name, row, values)
        elif self.attention is not None:
            self.attention[name][row] = values

    def flush_done(self) -> None:
        """Wait until the list of done documents is on the disk."""
        if isinstance(self.arrays["done"], np.memmap):
            self.arrays["done"].flush()


def in_memory(plan: RunPlan) -> Workspace:
    """Allocate arrays of zeros."""
    arrays = {name: np.zeros(shape, code) for name, (code, shape) in {**plan.arrays, **plan.scratch}.items()}
    layout = plan.attention_layout
    tensors = None if layout is None else {name: np.zeros(shape, code) for name, (code, shape) in layout.items()}
    return Workspace(arrays, tensors, plan.meta.created)


def on_disk(plan: RunPlan, path: Path) -> Workspace:
    """Open the arrays in `<path>.partial`: those of an interrupted run, or new ones at their full size.

    The caller has the lock of `path`. Raises InputError when `path` is something else, the disk is too full or cannot
    be written, or the folder holds another run.
    """
    files.remove_stale(path)
    files.check_target(path, MARKER)
    files.discard(path / RUN, path)  # a run that finished, and was killed before it had removed this
    folder = partial_folder(path)
    if not (folder / RUN / PLAN).is_file():
        _start(plan, folder, path)
    description = read_json(folder / RUN / PLAN, FORMAT)
    if description.get("fingerprint") != plan.name():
        raise InputError(
            f"{folder} holds an unfinished run with another model, text or settings: "
            "finish that one, delete the folder, or write elsewhere"
        )
    arrays: dict[str, np.ndarray] = {}
    arrays |= {name: map_array(folder / f"{name}.npy", *place) for name, place in plan.arrays.items()}
    arrays |= {name: map_array(folder / RUN / f"{name}.npy", *place) for name, place in plan.scratch.items()}
    return Workspace(arrays, _mapped_attention(plan, folder), str(description.get("created", "")))


def _mapped_attention(plan: RunPlan, folder: Path) -> tensor_file.TensorFile | None:
    layout = plan.attention_layout
    if layout is None:
        return None
    tensors = tensor_file.TensorFile(folder / ATTENTION, writable=True)
    for name, (code, shape) in layout.items():
        if name not in tensors or (tensors[name].shape, tensors[name].dtype) != (shape, np.dtype(code)):
            raise InputError(
                f"{folder / ATTENTION} must hold {name} with {code} of the shape {shape}, got none such; delete the "
                "unfinished run"
            )
    return tensors


def partial_folder(path: Path) -> Path:
    """Return the folder of the unfinished run of `path`: next to it, so that a rename finishes it."""
    return path.with_name(f"{path.name}.partial")


def _start(plan: RunPlan, folder: Path, path: Path) -> None:
    needed = plan.num_bytes()
    with files.plain_errors(folder, needed):
        _remove_unstarted(folder, path)
        files.require_space(folder, needed)
        (folder / RUN).mkdir(parents=True)
    try:
        _preallocate(plan, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _remove_unstarted(folder: Path, path: Path) -> None:
    """Remove a folder without a plan: it was interrupted before the run began, so nothing is lost."""
    if folder.exists() and not (folder / RUN).is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is in the way and is no unfinished run: remove it or write elsewhere")
    files.discard(folder, path)


def _preallocate(plan: RunPlan, folder: Path) -> None:
    for name, (code, shape) in plan.arrays.items():
        create_array(folder / f"{name}.npy", code, shape)
    for name, (code, shape) in plan.scratch.items():
        create_array(folder / RUN / f"{name}.npy", code, shape)
    if plan.attention is not None and (layout := plan.attention_layout) is not None:
        tensor_file.create(folder / ATTENTION, layout, attention_metadata(plan.attention))
    description = {"format": FORMAT, "fingerprint": plan.name(), "created": plan.meta.created}
    files.write_bytes(folder / RUN / PLAN, json.dumps(description).encode())
