"""The two tables of a trace as Parquet, including lone surrogates.

Parquet stores only valid UTF-8. A text column that holds a lone surrogate (a Python str may) is written
as JSON string literals instead, and its field says so: metadata `encoding: json`.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mixtral_probe.errors import InputError
from mixtral_probe.parquet_files import check_columns, check_size, is_text, open_with_texts_once, text_bytes
from mixtral_probe.reading import one_sentence, require_file
from mixtral_probe.trace.frames import NULLABLE, PHASES, TOKEN_COLUMNS, text_column, text_index

JSON = {b"encoding": b"json"}


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; categories stay dictionaries, missing values nulls (NaN stays NaN)."""
    fields, arrays = [], []
    for name, column in frame.items():
        array, metadata = _to_arrow(column)
        arrays.append(array)
        fields.append(pa.field(str(name), array.type, metadata=metadata))
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path, compression="zstd")


def _to_arrow(column: pd.Series) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts, metadata = _texts(column.cat.categories.tolist())
        codes = column.cat.codes.to_numpy().astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), texts), metadata
    if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
        return _texts([None if pd.isna(value) else value for value in column])
    return pa.array(column, from_pandas=not isinstance(column.dtype, np.dtype)), None


def _texts(values: list[str | None]) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    try:
        return pa.array(values, pa.large_string()), None
    except UnicodeEncodeError:
        literals = [None if value is None else json.dumps(value) for value in values]
        return pa.array(literals, pa.large_string()), JSON


def read_tokens(path: Path, num_tokens: int) -> pd.DataFrame:
    """Read the tokens table in its canonical dtypes, column by column, so that little memory is used.

    Args:
        path: of the file.
        num_tokens: T, by the arrays of the trace; a file with another number of rows is refused unread.

    Raises:
        InputError: it is damaged, or has other rows or columns; the file is named.
    """
    with _readable(path), _opened(path) as file:
        if file.metadata.num_rows != num_tokens:
            raise InputError(
                f"{path} must have a row for each of the {num_tokens:,} tokens of the arrays, got "
                f"{file.metadata.num_rows:,}; copy the whole folder again"
            )
        columns = {field.name: _token_column(column, field) for field, column in _columns(file)}
        return pd.DataFrame(columns, copy=False)


def _token_column(column: pa.ChunkedArray, field: pa.Field) -> Any:
    if pa.types.is_dictionary(field.type):
        return _categorical(column, field)
    if field.name in NULLABLE:
        return pd.Int32Dtype().__from_arrow__(column)
    return column.to_numpy()


def _categorical(column: pa.ChunkedArray, field: pa.Field) -> pd.Categorical:
    if not column.num_chunks:
        return pd.Categorical.from_codes([], categories=list(PHASES) if field.name == "phase" else text_index([]))
    codes, categories = _codes(column)
    return pd.Categorical.from_codes(codes, categories=text_index(_decode(categories, field)))


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """Return a number for each row, −1 = missing, and what the numbers stand for."""
    chunks = column.unify_dictionaries().chunks
    codes = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate([np.zeros(0, np.int32), *codes]), chunks[0].dictionary.to_pylist() if chunks else []


def read_documents(path: Path) -> pd.DataFrame:
    """Read the documents table in its canonical dtypes.

    Raises:
        InputError: it is damaged, holds other than texts, numbers and truth values, or takes very many times its size
            on disk in memory; the file is named.
    """
    with _readable(path), open_with_texts_once(path) as file:
        return pd.DataFrame({field.name: _label(column, field, path) for field, column in _columns(file)})


def _label(column: pa.ChunkedArray, field: pa.Field, path: Path) -> Any:
    if pa.types.is_dictionary(field.type):
        check_size(path, text_bytes(column))
        codes, texts = _codes(column)
        texts = [*_decode(texts, field), None]
        return text_column([texts[code] for code in codes.tolist()])
    if column.null_count and pa.types.is_integer(field.type):
        return pd.Int64Dtype().__from_arrow__(column)
    if column.null_count and pa.types.is_boolean(field.type):
        return pd.BooleanDtype().__from_arrow__(column)
    return column.to_numpy()


def _decode(values: list[Any], field: pa.Field) -> list[Any]:
    if not field.metadata or field.metadata.get(b"encoding") != b"json":
        return values
    return [None if value is None else json.loads(value) for value in values]


def _opened(path: Path) -> pq.ParquetFile:
    """Open the tokens, whose texts are dictionaries."""
    require_file(path)
    with pq.ParquetFile(path) as file:
        check_columns(path, file.schema_arrow)
        unknown = sorted(set(file.schema_arrow.names) - set(TOKEN_COLUMNS))
        if unknown:
            raise InputError(f"columns of tokens must be {', '.join(TOKEN_COLUMNS)}, got {unknown[0]!r} in {path}")
    return pq.ParquetFile(path, read_dictionary=[field.name for field in file.schema_arrow if is_text(field.type)])


def _columns(file: pq.ParquetFile) -> Iterator[tuple[pa.Field, pa.ChunkedArray]]:
    for field in file.schema_arrow:
        yield field, file.read([field.name], use_threads=False).column(0)


def _readable(path: Path) -> AbstractContextManager[None]:
    return one_sentence(f"{path.name} must be a whole Parquet file of a trace", path, "copy the whole folder again")
