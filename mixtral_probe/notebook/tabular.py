"""A table in a notebook: what it is about, its first rows, and what its columns and metrics mean."""

import pandas as pd

from mixtral_probe.notebook.markup import page, text
from mixtral_probe.tables import TABLES, TableSpec

ROWS = 10
"""Rows displayed."""


def spec_of(table: pd.DataFrame) -> TableSpec | None:
    """Return which of the project's tables a frame is, all of it or some of its rows; None for none."""
    names = list(table.columns)
    for spec in TABLES.values():
        if names == list(spec.columns) and ("metric" not in names or set(table["metric"]) <= set(spec.metrics)):
            return spec
    return None


def bundle(table: pd.DataFrame, spec: TableSpec) -> dict[str, str]:
    """Return a table as HTML and as plain text, both without the half characters that no notebook can hold."""
    return {"text/html": _html(table, spec), "text/plain": _valid(repr(table))}


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _html(table: pd.DataFrame, spec: TableSpec) -> str:
    rows = table.head(ROWS).to_html(index=False, border=0, na_rep="", float_format=lambda number: f"{number:.6g}")
    size = f"{len(table):,} rows" if len(table) <= ROWS else f"The first {ROWS} of {len(table):,} rows"
    names = dict.fromkeys(table["metric"]) if "metric" in table else {}
    meanings = spec.columns | {f"metric {name}": spec.metrics[name].meaning for name in names}
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(words)}</dd>" for name, words in meanings.items())
    return page(
        f'<p class="head">{text(spec.name)}</p>\n<p>{text(spec.description)}</p>',
        f'<div class="rows">{_valid(rows)}</div>\n<p class="note">{size}.</p>',
        f'<details><summary>What it says</summary><dl class="about">{listed}</dl></details>',
    )
