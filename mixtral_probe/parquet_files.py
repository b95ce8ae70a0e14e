"""Reading Parquet files that anyone may have made: a small file can stand for any number of rows and characters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mixtral_probe.errors import InputError
from mixtral_probe.reading import MIB, require_file

EXPANSION, SMALL = 100, 256 * MIB
"""Bytes in memory for each byte of the file, and of a small file."""
_CELL, _ROW = 64, 512
"""Upper estimates of bytes in memory: of a number or a reference, and of a row as a dict."""
_BATCH = 1_024


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Raise InputError unless every column has a name of its own and holds texts, numbers or truth values."""
    for field in schema:
        if schema.names.count(field.name) > 1:
            raise InputError(f"columns of {path.name} must have different names, got {field.name!r} twice; rename one")
        if not _is_plain(field.type):
            raise InputError(
                f"columns of {path.name} must hold texts, numbers or truth values, got {field.type} in "
                f"{field.name!r}; leave it out or convert it"
            )


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return numbers or is_text(kind) or pa.types.is_null(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def open_with_texts_once(path: Path) -> pq.ParquetFile:
    """Open a file so that a text that is stored once and repeated stays once in memory: texts come as dictionaries.

    Raises:
        InputError: it is no regular file, a column is of another kind, or it is too large for its size on disk.
    """
    require_file(path)
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(path, schema)
        check_size(path, file.metadata.num_rows * (_ROW + _CELL * len(schema)))
    return pq.ParquetFile(path, read_dictionary=[field.name for field in schema if is_text(field.type)])


def check_size(path: Path, size: int) -> None:
    """Raise InputError where a file takes many times more memory than disk, since it was made to exhaust it."""
    if size > SMALL + EXPANSION * path.stat().st_size:
        raise InputError(
            f"{path.name} must take at most {EXPANSION} times its size in memory, got {size / 1e9:.3g} GB for "
            f"{path.stat().st_size / 1e6:.3g} MB in {path}; write it again with less repetition"
        )


def text_bytes(column: pa.ChunkedArray | pa.Array) -> int:
    """Return the bytes of the texts of a column once each row has its own; 0 for other columns."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if not pa.types.is_dictionary(column.type):
        return 0
    sizes = (pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() for chunk in chunks)
    return sum(size or 0 for size in sizes)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file.

    Raises:
        InputError: see ``open_with_texts_once``; its texts are too large for its size on disk.
        Exception: of pyarrow, for a broken file.
    """
    with open_with_texts_once(path) as file:
        size = file.metadata.num_rows * (_ROW + _CELL * len(file.schema_arrow))
        for batch in file.iter_batches(_BATCH, use_threads=False):
            size += sum(map(text_bytes, batch.columns))
            check_size(path, size)
            yield from batch.to_pylist()
