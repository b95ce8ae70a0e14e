"""`mixtral-probe report`: every table of some traces as files."""

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.errors import InputError


def report(
    traces: options.TraceFolders,
    out: options.ReportOut,
    format: options.TableFormat = "csv",  # noqa: A002
    html: options.Html = False,
    tables: options.Tables = None,
) -> None:
    """Write every table of one or more traces as a file, and with --html one page that opens offline.

    Per-token tables above a million rows are left out unless --tables names them.

    \b
    Examples:
      mixtral-probe report corpus.trace --out corpus-report --html
      mixtral-probe report a.trace b.trace --out both --format parquet
      mixtral-probe report corpus.trace --out load --tables expert_load,balance
    """
    names = _table_names(tables)
    from mixtral_probe.report import write_report
    from mixtral_probe.trace import Trace

    write_report([Trace.load(folder) for folder in traces], out, format=format, html=html, tables=names)
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    typer.echo(
        f"wrote {words.counted(len(files), 'file')}, {words.size(sum(f.stat().st_size for f in files))}, to {out}"
    )
    for file in files:
        if file.suffix == ".html":
            typer.echo(f"open {file}")


def _table_names(tables: str | None) -> list[str] | None:
    if tables is None:
        return None
    names = [name.strip() for name in tables.split(",") if name.strip()]
    if not names:
        raise InputError("--tables needs at least one name, such as expert_load,balance")
    return names
