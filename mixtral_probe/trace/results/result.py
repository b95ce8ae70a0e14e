"""The result of an experiment: named arrays, checked, in memory or in a folder on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_folder
from mixtral_probe.notebook_repr import NotebookRepr
from mixtral_probe.paths import checked_path
from mixtral_probe.reading import one_sentence, require_file
from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.storage.folder import read_json
from mixtral_probe.trace.storage.tensor_file import NAMES

FORMAT = "mixtral-probe result"
MARKER = "result.json"
TENSORS = "arrays.safetensors"
RESULT_VERSION = 1


@dataclass(frozen=True, eq=False, repr=False)
class Result(NotebookRepr):
    """The result of an experiment: arrays of numbers, each with named axes.

    Frozen. A kind of experiment has a subclass, whose fields are the arrays and settings of that kind; ``Result.load``
    returns it. Raises InputError when axes and shapes disagree.
    """

    KIND: ClassVar[str] = ""
    """The kind of a subclass; "" for ``Result``, which takes any."""
    TABLES: ClassVar[tuple[str, ...]] = ()
    """The tables of this kind in ``mixtral_probe.tables``, the main one first; that has a figure of the same name."""
    _KINDS: ClassVar[dict[str, type["Result"]]] = {}

    kind: str
    """The experiment, such as `expert_similarity`."""
    arrays: Mapping[str, np.ndarray]
    """Numbers or truth values by name."""
    keys: Mapping[str, tuple[str, ...]]
    """For each array the names of its axes, in order; axes of one name have one length everywhere."""
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Axis name → the names of its entries (texts or numbers); an axis without labels counts from 0."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: model, settings, software."""

    def __init_subclass__(cls) -> None:
        if cls.KIND:
            cls._KINDS[cls.KIND] = cls

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, np.ndarray],
        labels: Mapping[str, tuple[Any, ...]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Self:
        """Build a result of this kind; its fields define the names of the arrays, and their axes."""
        axes = {name: value.axes for name in dir(cls) if isinstance(value := getattr(cls, name), Array)}
        return cls(cls.KIND, arrays, {name: axes[name] for name in arrays}, labels or {}, meta or {})

    @classmethod
    def require(cls, result: "Result", purpose: str) -> Self:
        """Return the result as one of this kind; raises InputError where it is of another."""
        if not isinstance(result, cls):
            raise InputError(f"{purpose} is made of a result of the kind {cls.KIND!r}, got one of {result.kind!r}")
        return result

    def __post_init__(self) -> None:
        if (kind := self._KINDS.get(self.kind, Result)) is not type(self):
            raise InputError(f"a result of {self.kind!r} is of the type {kind.__name__}, got {type(self).__name__}")
        arrays = {name: np.array(array, order="C") for name, array in self.arrays.items()}
        keys = {name: tuple(axes) for name, axes in self.keys.items()}
        labels = {axis: tuple(names) for axis, names in self.labels.items()}
        _check(arrays, keys, labels)
        for array in arrays.values():
            array.flags.writeable = False
        for axis, values in labels.items():
            if not all(isinstance(value, str | int | float) for value in values):
                raise InputError(f"labels of an axis must be texts or numbers, got {values!r} for {axis!r}")
        try:
            meta = json.loads(json.dumps(dict(self.meta)))
        except TypeError as error:
            raise InputError(f"meta may hold only what JSON can hold: {error}") from None
        for name, value in {"arrays": arrays, "keys": keys, "labels": labels, "meta": meta}.items():
            object.__setattr__(self, name, value)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"a result of {self.kind!r} has the arrays {', '.join(self.arrays)}, got {name!r}")
        return self.arrays[name]

    def axis(self, name: str) -> tuple[Any, ...]:
        """Return the names of an axis' entries: its labels, or 0, 1, …"""
        if name in self.labels:
            return self.labels[name]
        sizes = _axis_sizes(self.arrays, self.keys)
        if name not in sizes:
            raise InputError(f"a result of {self.kind!r} has the axes {', '.join(sizes) or 'none'}, got {name!r}")
        return tuple(range(sizes[name]))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a folder, whole or not at all; an older result is replaced, anything else raises InputError."""
        target = checked_path(path)
        write_folder(target, MARKER, self._write)
        return target

    def _write(self, folder: Path) -> None:
        (folder / TENSORS).write_bytes(save(dict(self.arrays)))
        description = {"format": FORMAT, "schema_version": RESULT_VERSION, "kind": self.kind, "keys": dict(self.keys)}
        description |= {"labels": dict(self.labels), "meta": dict(self.meta)}
        (folder / MARKER).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a saved result, as the subclass of its kind.

        Raises:
            InputError: it is missing, damaged, of a newer version, or of another kind than this class.
        """
        folder = checked_path(path)
        description = read_json(folder / MARKER, FORMAT)
        version = description.get("schema_version")
        if not isinstance(version, int) or version > RESULT_VERSION:
            raise InputError(
                f"results are read up to schema version {RESULT_VERSION}, got {version} in {folder}; "
                "install a newer mixtral-probe"
            )
        with one_sentence("a result must be whole", folder, "copy the whole folder again"):
            require_file(folder / TENSORS)
            stored = load_file(folder / TENSORS)
            arrays = {name: stored[name] for name in description["keys"]}
            kind = cls._KINDS.get(description["kind"], Result)
            result = kind(description["kind"], arrays, description["keys"], description["labels"], description["meta"])
            result._check_fields()
        return cls.require(result, str(folder))

    def _check_fields(self) -> None:
        """Raise ValueError where what was read does not fit the declarations of this kind."""
        for name in dir(type(self)):
            field = getattr(type(self), name)
            if isinstance(field, Array) and name in self.keys:
                field.check(self.keys[name], self.arrays[name])
            if isinstance(field, Setting) and field.name in self.meta:
                field.check(self.meta[field.name])

    def table(self) -> Any:
        """Return the main table of this kind, a DataFrame.

        Raises:
            InputError: the kind has no table.
        """
        if not self.TABLES:
            raise InputError(f"a result of {self.kind!r} has no table; read its arrays")
        return getattr(higher_package("tables"), self.TABLES[0])(self)

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write the main table as a CSV; returns the path."""
        return higher_package("tables").write_csv(self.table(), path)

    def figure(self) -> Any:
        """Return the plotly figure of the main table."""
        return getattr(higher_package("figures"), self.TABLES[0])(self.table())

    def __repr__(self) -> str:
        lines = [f"Result {self.kind!r}"]
        for name, array in self.arrays.items():
            axes = " × ".join(f"{axis} {size}" for axis, size in zip(self.keys[name], array.shape, strict=True))
            lines.append(f"  {name}: {axes or 'one number'}, {array.dtype}")
        return "\n".join(lines)


def higher_package(name: str) -> Any:
    """Import a package of a higher layer."""
    # By name and at the call: tables and figures are above results, which need them in a few methods only.
    return import_module(f"mixtral_probe.{name}")


def _check(arrays: Mapping[str, np.ndarray], keys: Mapping[str, tuple[str, ...]], labels: Mapping[str, Any]) -> None:
    if set(keys) != set(arrays):
        raise InputError(f"keys must name the axes of {', '.join(arrays) or 'no array'}, got those of {list(keys)}")
    for name, array in arrays.items():
        if array.dtype not in NAMES:
            raise InputError(f"array {name!r} must hold numbers or truth values, got {array.dtype}")
        if len(keys[name]) != array.ndim:
            raise InputError(f"array {name!r} has {array.ndim} axes, got the names {list(keys[name])}")
    sizes = _axis_sizes(arrays, keys)
    for axis, names in labels.items():
        if sizes.get(axis) != len(names):
            raise InputError(f"axis {axis!r} has {sizes.get(axis, 0)} entries, got {len(names)} labels")


def _axis_sizes(arrays: Mapping[str, np.ndarray], keys: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        for axis, size in zip(keys[name], array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise InputError(f"axis {axis!r} must have one length, got {sizes[axis]} and {size}")
    return sizes
