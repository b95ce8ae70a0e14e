"""The two tables of a trace as Parquet, including lone surrogates.

Parquet stores only valid UTF-8. A text column that holds a lone surrogate (a Python str may) is written
as JSON string literals instead, and its field says so: metadata `encoding: json`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mixtral_probe.errors import InputError
from mixtral_probe.trace.frames import NULLABLE, PHASES, text_column, text_index

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


def read_tokens(path: Path) -> pd.DataFrame:
    """Read the tokens table in its canonical dtypes, column by column, so that little memory is used.

    Raises InputError naming the file.
    """
    with _readable(path):
        columns = {field.name: _token_column(column, field) for field, column in _columns(path)}
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
    chunks = column.unify_dictionaries().chunks
    categories = _decode(chunks[0].dictionary.to_pylist(), field)
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks])
    return pd.Categorical.from_codes(codes, categories=text_index(categories))


def read_documents(path: Path) -> pd.DataFrame:
    """Read the documents table in its canonical dtypes; raises InputError naming the file."""
    with _readable(path):
        return pd.DataFrame({field.name: _label(column, field) for field, column in _columns(path)})


def _label(column: pa.ChunkedArray, field: pa.Field) -> Any:
    if pa.types.is_large_string(field.type) or pa.types.is_string(field.type):
        return text_column(_decode(column.to_pylist(), field))
    if column.null_count and pa.types.is_integer(field.type):
        return pd.Int64Dtype().__from_arrow__(column)
    if column.null_count and pa.types.is_boolean(field.type):
        return pd.BooleanDtype().__from_arrow__(column)
    return column.to_numpy()


def _decode(values: list[Any], field: pa.Field) -> list[Any]:
    if not field.metadata or field.metadata.get(b"encoding") != b"json":
        return values
    return [None if value is None else json.loads(value) for value in values]


def _columns(path: Path) -> Iterator[tuple[pa.Field, pa.ChunkedArray]]:
    with pq.ParquetFile(path) as file:
        for field in file.schema_arrow:
            yield field, file.read([field.name], use_threads=False).column(0)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, IndexError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} must be a whole Parquet file of a trace, got an unreadable one: {reason}") from None
