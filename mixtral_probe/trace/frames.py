"""The two tables of a trace in their one canonical form: dtypes, missing values, order of columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError

PHASES = ("prefill", "decode")
REQUIRED = {"document": "int32", "chunk": "int32", "position": "int32", "token_id": "int32"}
NULLABLE = ("start", "end", "predicted_id")
TOKEN_COLUMNS = (
    "document", "chunk", "position", "token_id", "piece", "start", "end", "phase", "special", "nll", "predicted_id",
)  # fmt: skip


def text_index(values: Sequence[str | None]) -> pd.Index:
    """Return texts as `str`, or as plain objects when one holds a lone surrogate, which `str` cannot store."""
    try:
        return pd.Index(values, dtype="str")
    except UnicodeEncodeError:
        return pd.Index(values, dtype=object)


def text_column(values: Sequence[str | None]) -> pd.Series:
    """Return a column of texts, None = missing: `str`, or objects when one holds a lone surrogate."""
    index = text_index(values)
    return pd.Series(index, dtype=index.dtype)


def token_frame(columns: Mapping[str, Any], num_tokens: int) -> pd.DataFrame:
    """Build the tokens table from some of its columns; the others get the defaults in brackets, or missing values.

    Columns, each [T]: `document` int32; `chunk` int32 (0); `position` int32 (counted within document and
    chunk); `token_id` int32 (−1 = unknown); `piece` category; `start`, `end` Int32, character offsets in
    the document; `phase` category prefill/decode (prefill); `special` bool (False); `nll` float32, nats
    (NaN = missing); `predicted_id` Int32.
    Raises InputError for an unknown column, a wrong length, or values that do not fit.
    """
    present = {name: values for name, values in columns.items() if values is not None}
    unknown = sorted(set(present) - set(TOKEN_COLUMNS))
    if unknown:
        raise InputError(f"a token column must be one of {', '.join(TOKEN_COLUMNS)}, got {unknown[0]!r}")
    for name, values in present.items():
        if len(values) != num_tokens:
            raise InputError(f"column {name!r} must have one value per token, {num_tokens}, got {len(values)}")
    table = {name: _integers(name, present.get(name), num_tokens) for name in ("document", "chunk", "token_id")}
    table["position"] = _positions(present.get("position"), table["document"], table["chunk"])
    table["piece"] = _pieces(present.get("piece"), num_tokens)
    table |= {name: _nullable(name, present.get(name), num_tokens) for name in NULLABLE}
    table["phase"] = _phases(present.get("phase"), num_tokens)
    table["special"] = _special(present.get("special"), num_tokens)
    table["nll"] = _floats(present.get("nll"), num_tokens)
    return pd.DataFrame({name: table[name] for name in TOKEN_COLUMNS}, copy=False)


def document_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Build the documents table: `document` int32, `id`, then one column per label, missing where a record lacks it.

    A label is a text, an integer, a number or a truth value, of one kind per column. A record without
    `id` gets its number. Raises InputError otherwise.
    """
    for number, record in enumerate(records):
        if int(record.get("document", number)) != number:
            raise InputError(f"documents must be numbered 0, 1, 2, … in order, got {record['document']} for {number}")
    names = list(dict.fromkeys(name for record in records for name in record if name not in ("document", "id")))
    for name in names:
        if not isinstance(name, str) or not name.isprintable():
            raise InputError(f"a label's name must be printable text, got {name!r}")
    ids = [str(record.get("id", number)) for number, record in enumerate(records)]
    columns = {"document": np.arange(len(records), dtype=np.int32), "id": text_column(ids)}
    labels = {name: label_column(name, [record.get(name) for record in records]) for name in names}
    return pd.DataFrame(columns | labels)


def label_column(name: str, values: Sequence[Any]) -> Any:
    """Return one label's values as a column of one kind: str, bool, int64, float64 or their nullable forms."""
    plain = [_plain(value) for value in values]
    kinds = {type(value) for value in plain if value is not None}
    missing = None in plain
    if not kinds <= {bool} and not kinds <= {str} and not kinds <= {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"label {name!r} must be text, numbers or truth values, of one kind, got {names}")
    try:
        if kinds == {bool}:
            return pd.array(plain, dtype="boolean") if missing else np.array(plain, dtype=bool)
        if kinds == {int}:
            return pd.array(plain, dtype="Int64") if missing else np.array(plain, dtype=np.int64)
        if float in kinds:
            return np.array([np.nan if value is None else value for value in plain], dtype=np.float64)
    except (OverflowError, TypeError) as error:
        raise InputError(
            f"label {name!r} must fit a 64-bit integer or float, got another: {error}; shorten it"
        ) from None
    return text_column(plain)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(value) if isinstance(value, str) else value


def _integers(name: str, values: Any, num_tokens: int) -> np.ndarray:
    if values is None:
        return np.full(num_tokens, -1 if name == "token_id" else 0, dtype=np.int32)
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"column {name!r} must hold integers, got {array.dtype}")
    if array.size and (array.max() >= 2**31 or array.min() < -(2**31)):
        raise InputError(f"column {name!r} must fit 32 bits, got values from {array.min()} to {array.max()}")
    return array.astype(np.int32)


def _positions(values: Any, document: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    if values is not None:
        return _integers("position", values, len(document))
    starts = np.flatnonzero(window_starts(document, chunk))
    lengths = np.diff(np.append(starts, len(document)))
    return (np.arange(len(document)) - np.repeat(starts, lengths)).astype(np.int32)


def window_starts(document: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """[T] True at the first token of each window (a run of rows with one document and one chunk)."""
    first = np.ones(len(document), dtype=bool)
    first[1:] = (document[1:] != document[:-1]) | (chunk[1:] != chunk[:-1])
    return first


def _pieces(values: Any, num_tokens: int) -> pd.Categorical:
    if values is None:
        return pd.Categorical.from_codes(np.full(num_tokens, -1, dtype=np.int8), categories=text_index([]))
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return pd.Categorical(values)
    numbers: dict[str, int] = {}
    codes = [-1 if _plain(piece) is None else numbers.setdefault(str(piece), len(numbers)) for piece in values]
    return pd.Categorical.from_codes(codes, categories=text_index(list(numbers)))


def _nullable(name: str, values: Any, num_tokens: int) -> pd.api.extensions.ExtensionArray:
    if values is None:
        return pd.arrays.IntegerArray(np.zeros(num_tokens, dtype=np.int32), np.ones(num_tokens, dtype=bool))
    try:
        return pd.array(values, dtype="Int32")
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"column {name!r} must hold 32-bit integers or missing values, got others") from None


def _phases(values: Any, num_tokens: int) -> pd.Categorical:
    if values is None:
        return pd.Categorical.from_codes(np.zeros(num_tokens, dtype=np.int8), categories=list(PHASES))
    unknown = sorted({str(value) for value in pd.unique(pd.Series(values))} - set(PHASES))
    if unknown:
        raise InputError(f"a token's phase must be 'prefill' or 'decode', got {unknown[0]!r}")
    return pd.Categorical(values, categories=list(PHASES))


def _special(values: Any, num_tokens: int) -> np.ndarray:
    if values is None:
        return np.zeros(num_tokens, dtype=bool)
    array = np.asarray(values)
    if array.size and array.dtype != bool:
        raise InputError(f"column 'special' must hold one truth value per token, got {array.dtype}")
    return array.astype(bool)


def _floats(values: Any, num_tokens: int) -> np.ndarray:
    if values is None:
        return np.full(num_tokens, np.nan, dtype=np.float32)
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("column 'nll' must hold numbers (NaN = missing), got others") from None
