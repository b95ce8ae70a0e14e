"""`mixtral-probe report`: every table of some traces as files."""

import typer

from mixtral_probe.cli import options, words
from mixtral_probe.cli.reserved import reserves
from mixtral_probe.cli.shell import print_json


@reserves("report")
def report(
    traces: options.TraceFolders,
    out: options.ReportOut,
    format: options.TableFormat = "csv",
    html: options.Html = False,
    tables: options.Tables = None,
    where: options.Where = None,
    as_json: options.AsJson = False,
) -> None:
    """Write every table of one or more traces as a file, and with --html one page that opens offline.

    Per-token tables above a million rows are left out unless --tables names them.

    \b
    Examples:
      mixtral-probe report corpus.trace --out corpus-report --html
      mixtral-probe report a.trace b.trace --out both --format parquet
      mixtral-probe report corpus.trace --out load --tables expert_load,balance
      mixtral-probe report corpus.trace --out digits --where 'layer in 2..5 and token.is_digit'
    """
    from mixtral_probe.report import write_report

    names = None if not tables else [name.strip() for name in ",".join(tables).split(",") if name.strip()]
    files = write_report(
        [trace.expanduser() for trace in traces], out, format=format, html=html, tables=names, where=where
    )
    if as_json:
        print_json({"path": str(out), "files": {file.name: file.stat().st_size for file in files}})
        return
    for file in files:
        typer.echo(f"{file}  {words.size(file.stat().st_size)}")
