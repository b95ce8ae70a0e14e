"""What a what-if found, with its table, its figure and its words."""

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from mixtral_probe import tables
from mixtral_probe.trace import Result

RUNS = ("base", "edited", "placebo")
"""Without edits, with them, and with as much change of nothing in particular."""
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

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write the table as a CSV; returns the path."""
        return tables.write_csv(self.table(), path)

    def figure(self) -> Any:
        """The change of routing and of next tokens, as plotly draws it."""
        # By name, since a result is made below the room that draws.
        return import_module("mixtral_probe.figures").what_if(self.table())

    def __repr__(self) -> str:
        lines = ["What if " + "; ".join(self.meta["sentences"])]
        table = self.table()
        whole = table[table["layer"].isna() & table["document"].isna()]
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
