"""`write_report`: which tables, of which traces, into which files."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.files import write_folder
from mixtral_probe.json_files import read_json_object
from mixtral_probe.paths import checked_path
from mixtral_probe.report.page import Page, Section
from mixtral_probe.report.sources import ReportTrace, sources_of
from mixtral_probe.tables import TABLES, TableSpec, write_csv, write_parquet
from mixtral_probe.trace import Trace
from mixtral_probe.trace.meta import utc_now

PER_TOKEN_LIMIT = 1_000_000
"""Rows above which a per-token table is left out unless it is named, and then is Parquet."""
MARKER = "report.json"
"""The file by which a folder is known as a report; it lists the others."""
PAGE = "report.html"
FORMAT = "mixtral-probe report"
_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Path]] = {"csv": write_csv, "parquet": write_parquet}


@dataclass
class _Contents:
    """The files of a report, and the tables left out."""

    files: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _as_list(traces: Any) -> Sequence[Trace | str | PathLike[str]]:
    """The traces as a list, also a single one."""
    if isinstance(traces, Trace | str | PathLike):
        return [traces]
    if not isinstance(traces, Sequence) or not all(isinstance(trace, Trace | str | PathLike) for trace in traces):
        given = {type(trace).__name__ for trace in traces} if isinstance(traces, Sequence) else {type(traces).__name__}
        raise InputError(f"a report is of traces or their folders, got {', '.join(sorted(given))}; give the trace")
    return traces


def write_report(
    traces: Trace | str | PathLike[str] | Sequence[Trace | str | PathLike[str]],
    out: str | PathLike[str],
    format: Literal["csv", "parquet"] = "csv",
    html: bool = False,
    tables: Sequence[str] | None = None,
    where: str | None = None,
) -> list[Path]:
    """Write every table of one or more traces as a file, whole or not at all, and return the files' paths.

    Each file is named after its table. Of several traces, each table has a first column `trace` with the name of the
    trace (its folder's, made unique). Where documents carry the label `domain`, tables of statistics have the rows of
    each domain and those of "all". Per-token tables of more than 1,000,000 rows are left out unless named in
    `tables`, and are Parquet then. A file `report.json` lists the files, what was left out and why, and the
    origin of the traces.

    Args:
        traces: traces or the folders of saved ones.
        out: the folder: a new one, an empty one, or an earlier report to which nothing was added; that is replaced.
        format: "csv" or "parquet".
        html: also write `report.html`, one page with figures that needs nothing else.
        tables: names of the tables wanted; None for all.
        where: an expression such as `layer in 8..15 and token.is_digit`, which says what they are about; None for all.

    Raises:
        InputError: no trace, a broken expression, an unknown table or format, or a folder that cannot or must not be
            contents.
    """
    if format not in _WRITERS:
        raise InputError(f"the format of a report must be csv or parquet, got {format!r}")
    specs = _specs(tables)
    target = checked_path(out)
    _check_report(target)
    sources = sources_of(_as_list(traces), where)
    contents = _Contents()
    page = Page(sources) if html else None
    write_folder(
        target, MARKER, lambda folder: _fill(folder, sources, specs, format, tables is not None, page, contents)
    )
    return [target / name for name in contents.files]


def _specs(names: Sequence[str] | None) -> list[TableSpec]:
    if isinstance(names, str):
        raise InputError(f"tables must be a list of names, got the text {names!r}")
    unknown = [name for name in names or () if name not in TABLES]
    if unknown:
        raise InputError(f"a table must be one of {', '.join(TABLES)}, got {unknown[0]!r}")
    if names is not None and not len(names):
        raise InputError(f"tables must name at least one table, got none; name some of {', '.join(TABLES)}")
    return [spec for name, spec in TABLES.items() if names is None or name in names]


def _check_report(folder: Path) -> None:
    """Refuse to replace an earlier report with files in it that the report did not write."""
    marker = folder / MARKER
    if not marker.is_file():
        return
    try:
        content = read_json_object(marker)
        known = {MARKER, *map(str, content["files"])} if content["format"] == FORMAT else None
    except (InputError, KeyError, TypeError):
        known = None
    if known is None:
        raise InputError(f"{marker} must be that of an earlier report, got something else; name another folder")
    if foreign := sorted(entry.name for entry in folder.iterdir() if entry.name not in known):
        raise InputError(
            f"a report to replace must have no other files in it, got {folder} with {foreign[0]}; name another folder"
        )


def _fill(
    folder: Path,
    sources: Sequence[ReportTrace],
    specs: Sequence[TableSpec],
    format: str,
    named: bool,
    page: Page | None,
    contents: _Contents,
) -> None:
    for spec in specs:
        if not spec.narrows and any(source.where is not None for source in sources):
            contents.left_out[spec.name] = "attention was summed while running, so it cannot be narrowed to a selection"
            continue
        large = spec.per_token and sum(source.rows_at_most(spec) for source in sources) > PER_TOKEN_LIMIT
        if large and not named:
            contents.left_out[spec.name] = (
                f"more than {PER_TOKEN_LIMIT:,} rows; name it in `tables` to have it as Parquet"
            )
            continue
        tables = [(source, source.table(spec)) for source in sources]
        kind = "parquet" if large else format
        name = f"{spec.name}.{kind}"
        _WRITERS[kind](_joined(tables), folder / name)
        contents.files.append(name)
        if page is not None:
            page.add(Section.of(spec, name, tables))
    if page is not None:
        (folder / PAGE).write_text(page.html(contents.left_out), encoding="utf-8", errors="backslashreplace")
        contents.files.append(PAGE)
    (folder / MARKER).write_text(json.dumps(_about(sources, contents), indent=1) + "\n", encoding="utf-8")


def _joined(tables: Sequence[tuple[ReportTrace, pd.DataFrame]]) -> pd.DataFrame:
    if len(tables) == 1:
        return tables[0][1]
    return pd.concat(_named(tables), ignore_index=True)


def _named(tables: Sequence[tuple[ReportTrace, pd.DataFrame]]) -> Iterator[pd.DataFrame]:
    for source, table in tables:
        # Categories of two traces cannot be joined where a token's text holds a lone surrogate; plain texts can.
        plain = {"token": table["token"].astype(object)} if "token" in table else {}
        names = pd.Series([source.name] * len(table), index=table.index, dtype="str")
        yield table.assign(trace=names, **plain)[["trace", *table.columns]]


def _about(sources: Sequence[ReportTrace], contents: _Contents) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created": utc_now(),
        "mixtral_probe": program_version(),
        "files": contents.files,
        "left_out": contents.left_out,
        "where": sources[0].where,
        "traces": [{"name": source.name, **source.provenance()} for source in sources],
    }


def program_version() -> str:
    """Return the installed version of mixtral-probe; empty when it is not installed."""
    try:
        return version("mixtral-probe")
    except PackageNotFoundError:
        return ""
