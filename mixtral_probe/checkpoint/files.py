"""The weight files of a model folder and their tensors."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mixtral_probe.checkpoint.names import common_name, is_ignored
from mixtral_probe.checkpoint.native import TorchFile, native_files, native_name
from mixtral_probe.errors import InputError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


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
    if path.suffix != ".safetensors":
        return TorchFile(path)
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError:
        raise InputError(f"the weights file {path.name} is missing from {path.parent}; download it again") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a whole safetensors file ({error}); download or copy it again") from None


def is_native(folder: Path) -> bool:
    """Whether the weights of a folder are in a layout of Mistral; with both, those of Hugging Face are used."""
    hugging_face = any(path.name in (WEIGHTS, INDEX) or SHARD.fullmatch(path.name) for path in folder.iterdir())
    return not hugging_face and bool(native_files(folder))


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder by their common names.

    Raises:
        InputError: there are no weights, a shard is missing or broken, or a tensor is stored twice.
    """
    if is_native(folder):
        return _native_tensors(folder)
    index = _weight_map(folder)
    names = sorted(set(index.values())) if index else _files_without_index(folder)
    found: dict[str, StoredTensor] = {}
    for file in names:
        for tensor in _tensors_in(folder / file):
            other = found.setdefault(common_name(tensor.name), tensor)
            if other is not tensor:
                raise _stored_twice(tensor, other)
    for name, file in index.items():
        if not is_ignored(name) and common_name(name) not in found:
            raise InputError(f"{file} must hold {name} by {INDEX}, got a file without it; download {folder} again")
    return found


def _native_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Tensors of native files; as in the published conversion, a shard may repeat tensors of another one."""
    found: dict[str, StoredTensor] = {}
    files = native_files(folder)
    for file in files:
        for tensor in _tensors_in(folder / file):
            other = found.setdefault(common_name(native_name(tensor.name)), tensor)
            if other is not tensor and not _equal(tensor, other):
                raise _stored_twice(tensor, other)
    if not any(tensor.name == "tok_embeddings.weight" for tensor in found.values()):
        raise InputError(
            f"{files[0]} must name its tensors as Mistral does, with a tok_embeddings.weight, got none in {folder}; "
            f"if its names are those of transformers, call it {WEIGHTS}"
        )
    return found


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    with open_file(one.file) as first, open_file(other.file) as second:
        return torch.equal(first.get_tensor(one.name), second.get_tensor(other.name))


def _stored_twice(tensor: StoredTensor, other: StoredTensor) -> InputError:
    where = f"{other.name} in {other.file.name}"
    return InputError(f"a weight must be stored once, got {tensor.name} in {tensor.file.name} and {where}; remove one")


def _tensors_in(path: Path) -> list[StoredTensor]:
    with open_file(path) as file:
        found = []
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if not is_ignored(name):
                part = file.get_slice(name)
                found.append(StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype()))
        return found


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor name → file name from the index; empty for a single file or without an index."""
    path = folder / INDEX
    if (folder / WEIGHTS).is_file() or not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = {str(name): str(file) for name, file in files.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{INDEX} must be a JSON object with a weight_map, got another content in {path}; download it again"
        ) from None
    for file in sorted(set(pairs.values())):
        if Path(file).name != file:
            raise InputError(f"{INDEX} must name files beside it, got {file!r}; download it again")
        if not (folder / file).is_file():
            raise InputError(f"{INDEX} names {file}, which {folder} does not have; download the missing shard")
    return pairs


def _files_without_index(folder: Path) -> list[str]:
    """The single file, or shards without an index."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    shards = sorted(path.name for path in folder.glob("*.safetensors") if SHARD.fullmatch(path.name))
    if not shards:
        raise InputError(f"{folder} must hold {WEIGHTS} or shards of it, got neither{_pickle_advice(folder)}")
    total = int(shards[0][-len("00000.safetensors") : -len(".safetensors")])
    wanted = [f"model-{i:05d}-of-{total:05d}.safetensors" for i in range(1, total + 1)]
    if shards != wanted:
        missing = ", ".join(sorted(set(wanted) - set(shards))) or "a consistent numbering"
        raise InputError(f"{folder} must hold {total} shards, got all but {missing}; download the model again")
    return shards


def _pickle_advice(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return "; its pytorch_model.bin is a pickle, which can run code: save it as safetensors with transformers first"
    return ""
