"""Named arrays that are not a trace: what an experiment found, kept and saved the same way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mixtral_probe.errors import InputError
from mixtral_probe.faces import Shown
from mixtral_probe.files import write_folder
from mixtral_probe.trace.storage import read_json
from mixtral_probe.trace.tensorfile import NAMES

FORMAT = "mixtral-probe result"
MARKER = "result.json"
TENSORS = "arrays.safetensors"
RESULT_VERSION = 1


@dataclass(frozen=True, eq=False, repr=False)
class Result(Shown):
    """What an experiment found: arrays of numbers, each with named axes.

    Frozen. Raises InputError when axes and shapes disagree.
    """

    kind: str
    """The experiment, such as `expert_similarity`."""
    arrays: Mapping[str, np.ndarray]
    """Numbers or truth values by name."""
    keys: Mapping[str, tuple[str, ...]]
    """For each array the names of its axes, in order; axes of one name have one length everywhere."""
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Axis name → what its entries are called (texts or numbers); an axis without labels counts from 0."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever JSON can hold: model, settings, software."""

    def __post_init__(self) -> None:
        arrays = {name: np.array(array, order="C") for name, array in self.arrays.items()}
        keys = {name: tuple(axes) for name, axes in self.keys.items()}
        labels = {axis: tuple(names) for axis, names in self.labels.items()}
        _check(arrays, keys, labels)
        for array in arrays.values():
            array.flags.writeable = False
        try:
            meta = json.loads(json.dumps(dict(self.meta)))
            json.dumps(labels)
        except TypeError as error:
            raise InputError(f"meta and labels may hold only what JSON can hold: {error}") from None
        for name, value in {"arrays": arrays, "keys": keys, "labels": labels, "meta": meta}.items():
            object.__setattr__(self, name, value)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"{name!r} was asked for, but the result holds {', '.join(self.arrays)}")
        return self.arrays[name]

    def axis(self, name: str) -> tuple[Any, ...]:
        """What the entries of an axis are called: its labels, or 0, 1, …"""
        if name in self.labels:
            return self.labels[name]
        sizes = _axis_sizes(self.arrays, self.keys)
        if name not in sizes:
            raise InputError(f"axis {name!r} was asked for, but the result has {', '.join(sizes) or 'none'}")
        return tuple(range(sizes[name]))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a folder, whole or not at all; a result that is there is replaced, anything else refused."""
        write_folder(Path(path), MARKER, self._write)
        return Path(path)

    def _write(self, folder: Path) -> None:
        save_file(dict(self.arrays), folder / TENSORS)
        about = {"format": FORMAT, "schema_version": RESULT_VERSION, "kind": self.kind, "keys": dict(self.keys)}
        about |= {"labels": dict(self.labels), "meta": dict(self.meta)}
        (folder / MARKER).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Result":
        """Read a saved result; raises InputError when it is missing, damaged, or of a newer version."""
        folder = Path(path)
        about = read_json(folder / MARKER, FORMAT)
        version = about.get("schema_version")
        if not isinstance(version, int) or version > RESULT_VERSION:
            raise InputError(
                f"{folder} is a result of schema version {version}, but this program reads up to {RESULT_VERSION}: "
                "install a newer mixtral-probe"
            )
        try:
            held = load_file(folder / TENSORS)
            arrays = {name: held[name] for name in about["keys"]}
            return cls(about["kind"], arrays, about["keys"], about["labels"], about["meta"])
        except (OSError, SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder} must hold a whole result, but cannot be read: {error}") from None

    def __repr__(self) -> str:
        lines = [f"Result {self.kind!r}"]
        for name, array in self.arrays.items():
            axes = " × ".join(f"{axis} {size}" for axis, size in zip(self.keys[name], array.shape, strict=True))
            lines.append(f"  {name}: {axes or 'one number'}, {array.dtype}")
        return "\n".join(lines)


def _check(arrays: Mapping[str, np.ndarray], keys: Mapping[str, tuple[str, ...]], labels: Mapping[str, Any]) -> None:
    if set(keys) != set(arrays):
        raise InputError(
            f"keys must name the axes of {', '.join(arrays) or 'no array'}, but names those of {list(keys)}"
        )
    for name, array in arrays.items():
        if array.dtype not in NAMES:
            raise InputError(f"array {name!r} must hold numbers or truth values, but holds {array.dtype}")
        if len(keys[name]) != array.ndim:
            raise InputError(f"array {name!r} has {array.ndim} axes, but keys names {list(keys[name])}")
    sizes = _axis_sizes(arrays, keys)
    for axis, names in labels.items():
        if sizes.get(axis) != len(names):
            raise InputError(f"axis {axis!r} has {sizes.get(axis, 0)} entries, but {len(names)} labels")


def _axis_sizes(arrays: Mapping[str, np.ndarray], keys: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        for axis, size in zip(keys[name], array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise InputError(f"axis {axis!r} must have one length, but has {sizes[axis]} and {size}")
    return sizes
