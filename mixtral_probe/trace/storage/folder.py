"""A trace as a folder: `trace.json`, two Parquet tables, memory-mapped arrays; no pickle anywhere."""

import io
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from mixtral_probe.errors import InputError
from mixtral_probe.files import allocate
from mixtral_probe.json_files import read_json_object
from mixtral_probe.reading import one_sentence, require_file
from mixtral_probe.trace.attention import AttentionPlan, AttentionRecord, attention_metadata
from mixtral_probe.trace.fingerprint import fingerprint
from mixtral_probe.trace.meta import SCHEMA_VERSION, TraceMeta
from mixtral_probe.trace.storage import parquet, tensor_file

FORMAT = "mixtral-probe trace"
MARKER = "trace.json"
ATTENTION = "attention.safetensors"
SAMPLED_TOKENS = 4096
ARRAYS = ("router_logits", "expert_ids", "expert_weights")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_FILES = (
    ((".csv", ".tsv", ".xlsx", ".parquet", ".feather"), "a table"),
    ((".pt", ".pth", ".bin", ".ckpt"), "a file of torch"),
    ((".npz", ".npy"), "arrays of NumPy"),
    ((".safetensors",), "a file of tensors"),
    ((".json", ".jsonl"), "a JSON file"),
    ((".pkl", ".pickle"), "a pickle, which can run code"),
    ((".zip", ".tar", ".gz", ".tgz", ".zst"), "an archive, to be unpacked"),
    ((".html",), "a page such as that of a report"),
)
"""What a file is that is given for a folder, by its ending."""


def write_parts(
    folder: Path,
    documents: pd.DataFrame,
    tokens: pd.DataFrame,
    arrays: Mapping[str, np.ndarray | None],
    attention: AttentionRecord | None,
    meta: TraceMeta,
    where: str | None = None,
) -> None:
    """Write a whole trace into an empty folder; the arrays by the names of `ARRAYS`; `where` of a selected trace."""
    write_tables(folder, documents, tokens)
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    if attention is not None:
        write_attention(folder / ATTENTION, attention)
    content = content_fingerprint(documents, tokens, arrays)
    write_description(folder, meta, len(tokens), len(documents), content, where)


def content_fingerprint(documents: pd.DataFrame, tokens: pd.DataFrame, arrays: Mapping[str, np.ndarray | None]) -> str:
    """Return a hash of what the statistics of a trace are made of.

    That is every token and document, every choice, and the weights and logits at about 4,096 tokens, evenly spaced.
    """
    columns = [tokens[name].to_numpy() for name in ("document", "chunk", "position", "token_id", "special")]
    labels = {
        str(name): [None if pd.isna(value) else value for value in documents[name].tolist()] for name in documents
    }
    step = max(1, len(tokens) // SAMPLED_TOKENS)
    sampled = [
        np.asarray(array[:, ::step])
        for name in ("expert_weights", "router_logits")
        if (array := arrays.get(name)) is not None
    ]
    choices = arrays["expert_ids"]
    assert choices is not None
    return fingerprint(*columns, labels, *choices, *sampled)


def recorded_fingerprint(folder: Path) -> str | None:
    """Return the hash that was recorded when a trace was written; None where an earlier version wrote it."""
    return read_json(folder / MARKER, FORMAT).get("content")


def read_parts(folder: Path) -> dict[str, Any]:
    """Read the fields of a trace by name, from its folder; absent optional ones are left out.

    Raises InputError naming what is missing, damaged or too new.
    """
    meta, description = read_description(folder)
    parts: dict[str, Any] = {"meta": meta, "where": description.get("where")}
    # The arrays first, since their sizes on disk bound the number of tokens: a table may claim any number of rows.
    for name in ARRAYS:
        if name == "expert_ids" or f"{name}.npy" in description["files"]:
            parts[name] = read_array(folder / f"{name}.npy")
    num_tokens = _num_tokens(folder, meta, parts["expert_ids"])
    parts["documents"] = parquet.read_documents(folder / "documents.parquet")
    parts["tokens"] = parquet.read_tokens(folder / "tokens.parquet", num_tokens)
    if ATTENTION in description["files"]:
        parts["attention_record"] = read_attention(folder / ATTENTION)
    return parts


def _num_tokens(folder: Path, meta: TraceMeta, ids: np.ndarray) -> int:
    layers, chosen = meta.num_layers, meta.num_experts_per_tok
    if ids.ndim != 3 or (ids.shape[0], ids.shape[2]) != (layers, chosen):
        raise InputError(
            f"expert_ids must have the shape ({layers}, tokens, {chosen}) by {MARKER}, got {ids.shape} in {folder}; "
            "copy the whole folder again"
        )
    return ids.shape[1]


def write_tables(folder: Path, documents: pd.DataFrame, tokens: pd.DataFrame) -> None:
    """Write `documents.parquet` and `tokens.parquet`."""
    parquet.write_frame(documents, folder / "documents.parquet")
    parquet.write_frame(tokens, folder / "tokens.parquet")


def write_description(
    folder: Path, meta: TraceMeta, num_tokens: int, num_documents: int, content: str, where: str | None = None
) -> None:
    """Write `trace.json`, last of all: it lists the other files with their sizes in bytes.

    Args:
        content: as `content_fingerprint` returns it.
    """
    files = {
        entry.name: entry.stat().st_size
        for entry in sorted(folder.iterdir())
        if entry.is_file() and entry.name != MARKER
    }
    description = {
        "format": FORMAT,
        "schema_version": meta.schema_version,
        "num_tokens": num_tokens,
        "num_documents": num_documents,
        "content": content,
        "meta": meta.facts,
        "files": files,
    }
    if where is not None:
        description["where"] = where
    (folder / MARKER).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def read_description(folder: Path) -> tuple[TraceMeta, dict[str, Any]]:
    """Read `trace.json`, as meta and as a whole, and check that every listed file exists at its full size.

    Raises InputError when it is no trace, a newer version's trace, or a file is missing or cut short.
    """
    description = read_json(folder / MARKER, FORMAT)
    version = description.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError(
            f"the schema version of a trace must be at most {SCHEMA_VERSION}, got {version} in {folder}; "
            "install a newer mixtral-probe"
        )
    with one_sentence(f"{MARKER} must describe a trace", folder / MARKER, "copy the whole folder again"):
        meta = _meta(description["meta"])
        sizes = {str(name): int(size) for name, size in description["files"].items()}
    for name, size in sizes.items():
        _check_size(folder / name, size)
    return meta, description


def read_json(path: Path, form: str) -> dict[str, Any]:
    """Read a small JSON file whose `format` must be `form`."""
    _require_folder(path.parent, path.name)
    try:
        content = read_json_object(path, "copy the whole folder again")
    except FileNotFoundError:
        raise InputError(f"{path.parent} must be a folder with {path.name} in it, got none") from None
    if content.get("format") != form:
        raise InputError(f"{path} must be the description of a {form}, got something else")
    return content


def _require_folder(folder: Path, marker: str) -> None:
    """Raise InputError where a file is given for a folder with the file `marker` in it."""
    if not folder.is_file():
        return
    if folder.name == marker:
        raise InputError(f"a folder with {marker} in it must be given, got that file, {folder}; give {folder.parent}")
    kind = next((kind for endings, kind in _FILES if folder.suffix.lower() in endings), "a file of another kind")
    raise InputError(
        f"a folder with {marker} in it must be given, got the file {folder}, {kind}; a trace is such a folder, made by "
        "mixtral-probe capture, Probe.trace or, of arrays from elsewhere, Trace.from_arrays(…).save(…), and so is a "
        "saved result of an experiment"
    )


def _meta(fields: Mapping[str, Any]) -> TraceMeta:
    try:
        return TraceMeta(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise InputError(f"every file of a trace must be there, {path} is missing; copy the whole folder again")
    actual = path.stat().st_size
    if actual != size:
        raise InputError(f"{path} must have {size:,} bytes, got {actual:,}; copy the whole folder again")


def create_array(path: Path, code: str, shape: tuple[int, ...]) -> None:
    """Create one `.npy` file of zeros at its full size, with its disk blocks reserved."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": code, "fortran_order": False, "shape": shape})
    allocate(path, len(header.getvalue()) + prod(shape) * np.dtype(code).itemsize)
    with path.open("r+b") as file:
        file.write(header.getvalue())


def map_array(path: Path, code: str, shape: tuple[int, ...]) -> np.memmap:
    """Memory-map a file of `create_array` for writing; raises InputError naming the file."""
    array = read_array(path)  # mode "r+" would lengthen a file that was cut short
    if array.shape != shape or array.dtype != np.dtype(code):
        raise InputError(
            f"{path} must hold {code} of the shape {shape}, got {array.dtype.str} of {array.shape}; "
            "delete the unfinished run"
        )
    return np.lib.format.open_memmap(path, mode="r+")


def read_array(path: Path) -> np.ndarray:
    """Memory-map one `.npy` file, read-only; raises InputError naming the file."""
    with one_sentence(f"{path.name} must be a whole .npy array of numbers", path, "copy the whole folder again"):
        require_file(path)
        with path.open("rb") as file:
            shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            offset = file.tell()
        _check_content(shape, dtype, path.stat().st_size - offset)
        if 0 in shape:
            return np.empty(shape, dtype)
        order: Literal["C", "F"] = "F" if fortran_order else "C"
        return np.memmap(path, dtype, "r", offset, shape, order).view(np.ndarray)


def _check_content(shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Raise ValueError unless numbers of this type and shape take `size` bytes."""
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype} of the shape {shape}")
    if prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{dtype} of the shape {shape} takes {prod(shape) * dtype.itemsize:,} bytes, not {size:,}")


def write_attention(path: Path, record: AttentionRecord) -> None:
    """Write the recorded attention as one `.safetensors` file."""
    places = {name: (record.tensors[name].dtype.str, record.tensors[name].shape) for name in record.tensors}
    file = tensor_file.create(path, places, attention_metadata(record.plan))
    for name in places:
        file[name][...] = record.tensors[name]
    file.flush()


def read_attention(path: Path) -> AttentionRecord:
    """Memory-map the recorded attention; raises InputError naming the file."""
    file = tensor_file.TensorFile(path)
    with one_sentence(f"{path.name} must say its layers and heads", path, "copy the whole folder again"):
        return AttentionRecord(AttentionPlan.from_text(file.metadata["plan"]), file)
