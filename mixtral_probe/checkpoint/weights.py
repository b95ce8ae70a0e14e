"""The weight files of a model folder: which of them count, and all their tensors by name."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixtral_probe.checkpoint.files import StoredTensor, equal, tensors_in
from mixtral_probe.checkpoint.names import common_name
from mixtral_probe.checkpoint.native import native_files, native_name
from mixtral_probe.checkpoint.wrappers import unwrapped_names
from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object


@dataclass(frozen=True, slots=True)
class Format:
    """The names of the weight files in one format: STEM.ENDING, or STEM-00001-of-00002.ENDING with an index."""

    stem: str
    ending: str

    @property
    def whole(self) -> str:
        """Of the single file."""
        return f"{self.stem}.{self.ending}"

    @property
    def index(self) -> str:
        """Of the index."""
        return f"{self.whole}.index.json"

    def shard(self, number: int, total: int) -> str:
        """Of one of several files, counted from 1."""
        return f"{self.stem}-{number:05d}-of-{total:05d}.{self.ending}"

    def is_shard(self, name: str) -> bool:
        """Whether a file is one of several."""
        return re.fullmatch(rf"{self.stem}-\d{{5}}-of-\d{{5}}\.{self.ending}", name) is not None

    def has(self, name: str) -> bool:
        """Whether a file is of this format."""
        return name in (self.whole, self.index) or self.is_shard(name)


SAFETENSORS, PICKLED = Format("model", "safetensors"), Format("pytorch_model", "bin")
"""In a folder with both, the first counts. Of a pickle only tensors are read."""


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights in a layout that is read."""
    return _format(folder) is not None or bool(native_files(folder))


def is_native(folder: Path) -> bool:
    """Whether the weights of a folder are in a layout of Mistral; with both, those of Hugging Face are used."""
    return _format(folder) is None and bool(native_files(folder))


def _format(folder: Path) -> Format | None:
    names = [path.name for path in folder.iterdir()]
    return next((kind for kind in (SAFETENSORS, PICKLED) if any(map(kind.has, names))), None)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder by their common names.

    Raises:
        InputError: there are no weights, a shard is missing or broken, or a tensor is stored twice.
    """
    if is_native(folder):
        return _native_tensors(folder)
    kind = _format(folder)
    if kind is None:
        raise InputError(f"{folder} must hold {SAFETENSORS.whole} or shards of it, got neither")
    index = _weight_map(folder, kind)
    files = sorted(set(index.values())) if index else _files_without_index(folder, kind)
    tensors = [tensor for file in files for tensor in tensors_in(folder / file)]
    names = unwrapped_names(tensor.name for tensor in tensors)
    found: dict[str, StoredTensor] = {}
    for tensor in tensors:
        other = found.setdefault(common_name(names[tensor.name]), tensor)
        if other is not tensor:
            raise _stored_twice(tensor, other, index, kind.index)
    for name, file in index.items():
        if name not in names:
            raise InputError(f"{file} must hold {name} by {kind.index}, got a file without it; download {folder} again")
    return found


def _native_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Tensors of native files; as in the published conversion, a shard may repeat tensors of another one."""
    found: dict[str, StoredTensor] = {}
    files = native_files(folder)
    tensors = [tensor for file in files for tensor in tensors_in(folder / file)]
    names = unwrapped_names(tensor.name for tensor in tensors)
    for tensor in tensors:
        other = found.setdefault(common_name(native_name(names[tensor.name])), tensor)
        if other is not tensor and not equal(tensor, other):
            raise _stored_twice(tensor, other)
    if "tok_embeddings.weight" not in names.values():
        raise InputError(
            f"{files[0]} must name its tensors as Mistral does, with a tok_embeddings.weight, got none in {folder}; "
            f"if its names are those of transformers, call it {SAFETENSORS.whole}"
        )
    return found


def _stored_twice(
    tensor: StoredTensor, other: StoredTensor, index: Mapping[str, str] | None = None, index_name: str = ""
) -> InputError:
    file = (index or {}).get(tensor.name) if tensor.name == other.name else None
    extra = next((one for one in (tensor, other) if file is not None and one.file.name != file), None)
    advice = "remove one"
    if extra is not None:
        advice = f"{index_name} says {file}, so {extra.file.name} is left over from another save; download both again"
    where = f"{other.name} in {other.file.name}"
    return InputError(f"a weight must be stored once, got {tensor.name} in {tensor.file.name} and {where}; {advice}")


def _weight_map(folder: Path, kind: Format) -> dict[str, str]:
    """Tensor name → file name from the index; empty for a single file or without an index."""
    path, shards = folder / kind.index, _shards(folder, kind)
    if (folder / kind.whole).is_file():
        if others := [*([kind.index] if path.is_file() else []), *shards]:
            _warn_left_over(folder, others, f"{kind.whole} has all weights")
        return {}
    if not path.is_file():
        return {}
    pairs = _pairs(path)
    named = sorted(set(pairs.values()))
    for file in named:
        if Path(file).name != file:
            raise InputError(f"{kind.index} must name files beside it, got {file!r}; download it again")
    extra = [file for file in shards if file not in named]
    if missing := [file for file in named if not (folder / file).is_file()]:
        instead = f"; it has {_listed(extra)}, left over from another save" if extra else ""
        raise InputError(
            f"{kind.index} names {_listed(missing)}, which {folder} does not have{instead}; download the missing shard"
        )
    if extra:
        _warn_left_over(folder, extra, f"{kind.index} does not name them")
    return pairs


def _pairs(path: Path) -> dict[str, str]:
    try:
        pairs = read_json_object(path, "download it again").get("weight_map")
    except InputError as error:
        raise InputError(f"the index must be a JSON object with a weight_map: {error}") from None
    if not isinstance(pairs, dict) or not pairs or not all(isinstance(file, str) for file in pairs.values()):
        raise InputError(
            f"{path.name} must be a JSON object with a weight_map from names of tensors to names of files, got another "
            f"content in {path}; download it again"
        )
    return pairs


def _shards(folder: Path, kind: Format) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if kind.is_shard(path.name))


def _warn_left_over(folder: Path, files: Sequence[str], why: str) -> None:
    warnings.warn(f"{folder} has files of another save, which are not read: {_listed(files)} ({why})", stacklevel=7)


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _files_without_index(folder: Path, kind: Format) -> list[str]:
    """The single file, or the shards of one save."""
    if (folder / kind.whole).is_file():
        return [kind.whole]
    shards = _shards(folder, kind)
    totals = sorted({int(name.split("-")[-1][:5]) for name in shards})
    saves = [[kind.shard(i, total) for i in range(1, total + 1)] for total in totals]
    whole = [names for names in saves if set(names) <= set(shards)]
    if len(whole) == 1:
        if extra := [shard for shard in shards if shard not in whole[0]]:
            _warn_left_over(folder, extra, f"{whole[0][0]} to {whole[0][-1]} are all of a save")
        return whole[0]
    if len(saves) > 1:
        raise InputError(
            f"{folder} must hold the shards of one save, got {_listed(shards)} of {len(saves)}, and no {kind.index} "
            "that says which count; download the model again"
        )
    missing = _listed(sorted(set(saves[0]) - set(shards)))
    raise InputError(f"{folder} must hold {len(saves[0])} shards, got all but {missing}; download the model again")
