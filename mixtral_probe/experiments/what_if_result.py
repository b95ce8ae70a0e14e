"""What a what-if found, with its table, its figure and its words."""

import json
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from mixtral_probe import tables
from mixtral_probe.errors import InputError
from mixtral_probe.files import check_target, write_folder
from mixtral_probe.trace import Result

MARKER = "what_if.json"
"""The file by which a folder is known as the tables of a what-if: its edits, its placebo, and what was said."""
TABLES = ("what_if", "what_if_tokens", "what_if_next_tokens")
RUNS = ("base", "edited", "placebo")
"""Without edits, with them, and with as many assignments of random tokens, or as many other heads, damaged alike."""
CANDIDATES = 40
"""Next tokens kept for each document: the best 20 without and the best 20 with the edits."""


class WhatIf(Result):
    """The runs without edits, with them and with a placebo, side by side; see ``tables.what_if``.

    Arrays: expert_ids, expert_weights [run, L, T, K]; nll (nats), bits (KL divergence of the next-token distribution
    from that without edits), predicted_id [run, T]; probability, rank [run, document, candidate] after the last token.
    """

    def table(self) -> Any:
        """``tables.what_if``."""
        return tables.what_if(self)

    def overall(self) -> Any:
        """The rows of the table that are about all layers and documents."""
        table = self.table()
        return table[table["layer"].isna() & table["document"].isna()]

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write the table as a CSV; returns the path."""
        return tables.write_csv(self.table(), path)

    def write_tables(self, folder: str | PathLike[str]) -> list[Path]:
        """Write every table as a CSV, and the edits and settings beside them, whole or not at all.

        Args:
            folder: a new one, an empty one, or one that an earlier what-if wrote, which is replaced.

        Raises:
            InputError: the folder cannot or must not be written.
        """
        require_free(target := Path(folder))
        write_folder(target, MARKER, self._fill)
        return [target / name for name in _FILES]

    def _fill(self, folder: Path) -> None:
        for name in TABLES:
            tables.write_csv(getattr(tables, name)(self), folder / f"{name}.csv")
        (folder / MARKER).write_text(json.dumps(dict(self.meta), indent=1) + "\n", encoding="utf-8")

    def figure(self) -> Any:
        """The change of routing and of next tokens, as plotly draws it."""
        # By name, since a result is made below the room that draws.
        return import_module("mixtral_probe.figures").what_if(self.table())

    def __repr__(self) -> str:
        lines = ["What if " + "; ".join(self.meta["sentences"])]
        whole = self.overall()
        for metric in ("loss_change", "divergence_bits", "prediction_changed", "rerouted"):
            edited, placebo = (whole[(whole["run"] == run) & (whole["metric"] == metric)] for run in RUNS[1:])
            beside = f"   placebo {_number(placebo.iloc[0])}" if len(placebo) else ""
            lines.append(f"  {metric:18}  {_number(edited.iloc[0])}{beside}")
        for before, after in (
            zip(*self.meta.get("generated", {}).values(), strict=True) if "generated" in self.meta else ()
        ):
            lines += [f"  said before  {before!r}", f"  says now     {after!r}"]
        return "\n".join(lines)


def _number(row: Any) -> str:
    interval = "" if row["low"] != row["low"] else f" [{row['low']:.4f}, {row['high']:.4f}]"
    return f"{row['value']:.4f}{interval}"


_FILES = (*(f"{name}.csv" for name in TABLES), MARKER)


def require_free(folder: Path) -> None:
    """Raise InputError where tables of a what-if must not be written, because something else would be lost."""
    check_target(folder, MARKER)
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in _FILES) if folder.is_dir() else []
    if foreign:
        raise InputError(f"{folder} holds other things than a what-if ({foreign[0]}): name another folder")
