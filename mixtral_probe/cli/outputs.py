"""What verbs that run an experiment share: files of its result and table, then facts as JSON or lines."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from mixtral_probe.cli import words
from mixtral_probe.cli.shell import print_json

if TYPE_CHECKING:
    import pandas as pd

    from mixtral_probe.run.estimate import ResourceEstimate
    from mixtral_probe.trace import Result

R = TypeVar("R", bound="Result")
PLACEBO_HEAD = f"{'placebo':>10} {'range of draws':>21} {'p':>8}"
"""Above what `placebo_columns` writes."""


def present(
    result: R,
    files: Iterable[Path | None],
    *,
    csv: Path | None,
    as_json: bool,
    facts: Callable[[R, "pd.DataFrame"], dict[str, Any]],
    lines: Callable[[R, "pd.DataFrame"], Iterable[str]],
) -> None:
    """Name the files that were written, write the table, and print facts of both or lines."""
    table = result.table()
    if csv is not None:
        from mixtral_probe.tables import write_csv

        files = [*files, write_csv(table, csv.expanduser())]
    for file in files:
        if file is not None:
            typer.echo(f"wrote {file}", err=as_json)
    if as_json:
        print_json(facts(result, table))
    else:
        typer.echo("\n".join(lines(result, table)))


def saved(result: "Result", out: Path | None) -> Path | None:
    """Save a result where ``--out`` says; None without."""
    return None if out is None else result.save(out.expanduser())


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as dictionaries of plain values, None where one is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def interval(low: float, high: float) -> str:
    """An interval, or a dash where there is none."""
    return "–" if low != low else f"{low:.4f} – {high:.4f}"


def number(value: float) -> str:
    """A number with four digits, or a dash where it is missing."""
    return "–" if value != value else f"{value:.4f}"


def placebo_columns(row: "Mapping[str, Any] | pd.Series[Any]") -> str:
    """The mean of a placebo's draws, their range, and their p-value; dashes where these are missing."""
    p = "–" if row["p"] != row["p"] else f"{row['p']:.2g}"
    return f"{number(row['null']):>10} {interval(row['placebo_low'], row['placebo_high']):>21} {p:>8}"


def estimate_line(expected: "ResourceEstimate", *, placebos: int = 0, most: bool = False) -> str:
    """What a run will take; ``most``: so many tokens at most."""
    tokens = f"{'at most ' if most else ''}{words.counted(expected.tokens, 'token')}"
    drawn = f", {words.counted(placebos, 'placebo draw')}" if placebos else ""
    disk = f"{words.size(expected.disk_bytes)} on disk, " if expected.disk_bytes else ""
    return (
        f"{words.counted(expected.documents, 'document')}, {tokens}{drawn}: about "
        f"{words.size(expected.memory_bytes)} of memory, {disk}{words.duration(expected.seconds)}"
    )
