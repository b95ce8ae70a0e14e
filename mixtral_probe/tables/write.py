"""Tables as files, written whole or not at all."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from mixtral_probe.files import write_file

TOKEN_TEXT = ("token", "piece", "other_token")
"""Columns that hold pieces of text as the tokenizer cut them."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_form(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as in a CSV: token texts are JSON string literals, which no spreadsheet reads as formulas.

    Other texts are left as they are, except those that begin like a formula, which become JSON literals too. Missing
    stays missing.
    """
    return table.assign(**{name: _texts(table[name]) for name in table.columns if _is_text(table[name])})


def write_csv(table: pd.DataFrame, path: str | PathLike[str]) -> Path:
    """Write a table as CSV (UTF-8, see `csv_form`) and return the path."""
    form = csv_form(table)
    return write_file(path, lambda part: form.to_csv(part, index=False, lineterminator="\n", errors="backslashreplace"))


def write_parquet(table: pd.DataFrame, path: str | PathLike[str]) -> Path:
    """Write a table as Parquet and return the path. Texts stay as they are, except lone surrogates, which are escaped.

    Parquet holds valid UTF-8 only.
    """
    form = table.assign(**{name: _storable(table[name]) for name in table.columns if _is_text(table[name])})
    return write_file(path, lambda part: form.to_parquet(part, index=False))


def _storable(column: pd.Series) -> pd.Series:
    texts = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.dropna().unique()
    try:
        "".join(map(str, texts)).encode("utf-8")
    except UnicodeEncodeError:
        escaped = column.astype(object).map(
            lambda text: str(text).encode("utf-8", "backslashreplace").decode(), "ignore"
        )
        return escaped.astype("str")
    return column


def _is_text(column: pd.Series) -> bool:
    return column.dtype == object or isinstance(column.dtype, (pd.CategoricalDtype, pd.StringDtype))


def _texts(column: pd.Series) -> pd.Series:
    always = column.name in TOKEN_TEXT
    literals = {text: _literal(text) for text in column.dropna().unique() if always or str(text).startswith(_FORMULA)}
    if not literals:
        return column
    # Of type object, because `str` cannot hold a lone surrogate.
    return pd.Series([literals.get(text, text) for text in column.astype(object)], index=column.index, dtype=object)


def _literal(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)
