"""The weight files of a model folder: which of them count, and all their tensors by name."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from mixtral_probe.checkpoint.files import StoredTensor, equal, tensors_in
from mixtral_probe.checkpoint.names import common_name
from mixtral_probe.checkpoint.native import native_files, native_name
from mixtral_probe.checkpoint.wrappers import unwrapped_names
from mixtral_probe.errors import InputError
from mixtral_probe.json_files import read_json_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights in a layout that is read."""
    return _is_hugging_face(folder) or bool(native_files(folder))


def is_native(folder: Path) -> bool:
    """Whether the weights of a folder are in a layout of Mistral; with both, those of Hugging Face are used."""
    return not _is_hugging_face(folder) and bool(native_files(folder))


def _is_hugging_face(folder: Path) -> bool:
    return any(path.name in (WEIGHTS, INDEX) or SHARD.fullmatch(path.name) for path in folder.iterdir())


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder by their common names.

    Raises:
        InputError: there are no weights, a shard is missing or broken, or a tensor is stored twice.
    """
    if is_native(folder):
        return _native_tensors(folder)
    index = _weight_map(folder)
    files = sorted(set(index.values())) if index else _files_without_index(folder)
    tensors = [tensor for file in files for tensor in tensors_in(folder / file)]
    names = unwrapped_names(tensor.name for tensor in tensors)
    found: dict[str, StoredTensor] = {}
    for tensor in tensors:
        other = found.setdefault(common_name(names[tensor.name]), tensor)
        if other is not tensor:
            raise _stored_twice(tensor, other, index)
    for name, file in index.items():
        if name not in names:
            raise InputError(f"{file} must hold {name} by {INDEX}, got a file without it; download {folder} again")
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
            raise _stored_twice(tensor, other, {})
    if "tok_embeddings.weight" not in names.values():
        raise InputError(
            f"{files[0]} must name its tensors as Mistral does, with a tok_embeddings.weight, got none in {folder}; "
            f"if its names are those of transformers, call it {WEIGHTS}"
        )
    return found


def _stored_twice(tensor: StoredTensor, other: StoredTensor, index: Mapping[str, str]) -> InputError:
    file = index.get(tensor.name) if tensor.name == other.name else None
    extra = next((one for one in (tensor, other) if file is not None and one.file.name != file), None)
    advice = "remove one"
    if extra is not None:
        advice = f"{INDEX} says {file}, so {extra.file.name} is left over from another save; download both again"
    where = f"{other.name} in {other.file.name}"
    return InputError(f"a weight must be stored once, got {tensor.name} in {tensor.file.name} and {where}; {advice}")


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor name → file name from the index; empty for a single file or without an index."""
    path, shards = folder / INDEX, _shards(folder)
    if (folder / WEIGHTS).is_file():
        if others := [*([INDEX] if path.is_file() else []), *shards]:
            _warn_left_over(folder, others, f"{WEIGHTS} has all weights")
        return {}
    if not path.is_file():
        return {}
    pairs = _pairs(path)
    named = sorted(set(pairs.values()))
    for file in named:
        if Path(file).name != file:
            raise InputError(f"{INDEX} must name files beside it, got {file!r}; download it again")
    extra = [file for file in shards if file not in named]
    if missing := [file for file in named if not (folder / file).is_file()]:
        instead = f"; it has {_listed(extra)}, left over from another save" if extra else ""
        raise InputError(
            f"{INDEX} names {_listed(missing)}, which {folder} does not have{instead}; download the missing shard"
        )
    if extra:
        _warn_left_over(folder, extra, f"{INDEX} does not name them")
    return pairs


def _pairs(path: Path) -> dict[str, str]:
    try:
        pairs = read_json_object(path, "download it again").get("weight_map")
    except InputError as error:
        raise InputError(f"the index must be a JSON object with a weight_map: {error}") from None
    if not isinstance(pairs, dict) or not pairs or not all(isinstance(file, str) for file in pairs.values()):
        raise InputError(
            f"{INDEX} must be a JSON object with a weight_map from names of tensors to names of files, got another "
            f"content in {path}; download it again"
        )
    return pairs


def _shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors") if SHARD.fullmatch(path.name))


def _warn_left_over(folder: Path, files: Sequence[str], why: str) -> None:
    warnings.warn(f"{folder} has files of another save, which are not read: {_listed(files)} ({why})", stacklevel=6)


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _files_without_index(folder: Path) -> list[str]:
    """The single file, or the shards of one save."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    shards = _shards(folder)
    if not shards:
        raise InputError(f"{folder} must hold {WEIGHTS} or shards of it, got neither{_pickle_advice(folder)}")
    saves = [_numbered(int(total)) for total in sorted({shard.split("-")[-1][:5] for shard in shards})]
    whole = [names for names in saves if set(names) <= set(shards)]
    if len(whole) == 1:
        if extra := [shard for shard in shards if shard not in whole[0]]:
            _warn_left_over(folder, extra, f"{whole[0][0]} to {whole[0][-1]} are all of a save")
        return whole[0]
    if len(saves) > 1:
        raise InputError(
            f"{folder} must hold the shards of one save, got {_listed(shards)} of {len(saves)}, and no {INDEX} that "
            "says which count; download the model again"
        )
    missing = _listed(sorted(set(saves[0]) - set(shards)))
    raise InputError(f"{folder} must hold {len(saves[0])} shards, got all but {missing}; download the model again")


def _numbered(total: int) -> list[str]:
    return [f"model-{i:05d}-of-{total:05d}.safetensors" for i in range(1, total + 1)]


def _pickle_advice(folder: Path) -> str:
    if any(folder.glob("pytorch_model*.bin")):
        return "; its pytorch_model.bin is a pickle, which can run code: save it as safetensors with transformers first"
    return ""
