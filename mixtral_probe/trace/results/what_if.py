"""The result of a what-if: the runs, their tables, and the files written from them."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from mixtral_probe.errors import InputError
from mixtral_probe.files import check_target, write_folder
from mixtral_probe.paths import checked_path
from mixtral_probe.trace.results.fields import Array, Setting
from mixtral_probe.trace.results.result import Result, higher_package

MARKER = "what_if.json"
"""The file that marks a folder as the tables of a what-if: its edits, its placebo, and the generated text."""
RUNS = ("base", "edited", "placebo")
"""Without edits, with them, and the first draw of a placebo: as much damage to random assignments, or other heads."""
CANDIDATES = 40
"""Next tokens kept for each document: the best 20 without and the best 20 with the edits."""


class WhatIf(Result):
    """The runs without edits, with them and with draws of a placebo, side by side; ``tables.what_if`` and its like.

    Of the draws after the first, sums are kept. A file of an earlier version has one draw and no sums.
    """

    KIND = "what_if"
    TABLES = ("what_if", "what_if_tokens", "what_if_next_tokens")

    expert_ids = Array("run", "layer", "token", "choice", whole=True)
    """[runs, L, T, K]; the runs are those of ``RUNS``."""
    expert_weights = Array("run", "layer", "token", "choice")
    """[runs, L, T, K]"""
    nll = Array("run", "token")
    """[runs, T] nats; NaN at the start of a window."""
    bits = Array("run", "token")
    """[runs, T] KL divergence of the next-token distribution from that without edits."""
    predicted_id = Array("run", "token", whole=True)
    """[runs, T] the most probable next token."""
    probability = Array("run", "document", "candidate")
    """[runs, documents, candidates] of each candidate after the document's last token."""
    rank = Array("run", "document", "candidate", whole=True)
    """[runs, documents, candidates] its rank there, 0 = best."""
    candidate_id = Array("document", "candidate", whole=True)
    """[documents, candidates] the best tokens without and with the edits; -1 where there are fewer."""
    token_document = Array("token", whole=True)
    """[T] the document of each token; chunk, position, token_id and special follow alike."""
    chunk = Array("token", whole=True)
    position = Array("token", whole=True)
    token_id = Array("token", whole=True)
    special = Array("token")
    draw_nll = Array("draw", "document")
    """[draws, documents] sum of nll over counted tokens with a loss, special ones out, for each draw of the placebo."""
    draw_bits = Array("draw", "document")
    """[draws, documents] sum of ``bits`` over counted tokens."""
    draw_changed = Array("draw", "document")
    """[draws, documents] counted tokens after which another token is the most probable."""
    draw_rerouted = Array("draw", "layer", "document")
    """[draws, L, documents] counted tokens with another set of experts."""
    draw_used = Array("draw", "layer", "expert")
    """[draws, L, E] assignments of counted tokens."""
    draw_probability = Array("draw", "document", "candidate")
    """[draws, documents, candidates] as ``probability``."""
    token_draw_mean = Array("token")
    """[T] mean over the draws of the change of each token's loss, nats; low and high are its range."""
    token_draw_low = Array("token")
    token_draw_high = Array("token")
    continuation_tokens = Array("document")
    """[documents] new tokens without edits, where texts were continued."""
    continuation_kept = Array("document")
    """[documents] those of them before the first other token with the edits."""
    draw_continuation_kept = Array("draw", "document")
    """[draws, documents] the same with each draw of the placebo."""
    candidates = Setting[list[list[str]]]()
    """By document, the texts of the candidates."""
    num_experts = Setting[int]("experts")
    edits = Setting[list[dict[str, Any]]]()
    sentences = Setting[list[str]]()
    """The edits in words."""
    placebo_sentences = Setting[list[str]]("placebo")
    """The placebo in words; empty without one."""
    seed = Setting[int]()
    """Of the placebo."""

    def _check_fields(self) -> None:
        super()._check_fields()
        for name, most in (("token_document", len(self.axis("document"))), ("expert_ids", self.num_experts)):
            numbers = self[name]
            if numbers.size and not -1 <= numbers.min() <= numbers.max() < most:
                raise ValueError(f"{name} must be in 0–{most - 1}, got {numbers.min()} to {numbers.max()}")

    @property
    def draws(self) -> int:
        """How many draws of the placebo ran."""
        if "draw_nll" in self.arrays:
            return len(self.draw_nll)
        return int(len(self.axis("run")) == len(RUNS))

    @property
    def arrangements(self) -> int:
        """In how many ways the placebo can turn out, counted up to 1,000,000; in a file of an earlier version, 1."""
        return int(self.meta.get("arrangements", 1))

    @property
    def generated(self) -> list[tuple[str, str]]:
        """By document, the text that follows without and with the edits; empty where none was generated."""
        return list(zip(*self.meta.get("generated", {}).values(), strict=True))

    @property
    def generated_placebo(self) -> list[list[str]]:
        """By document, the text that follows with each draw of the placebo; empty where none was generated."""
        return self.meta.get("generated_placebo", [])

    def overall(self) -> Any:
        """Return the rows of the table over all layers and documents."""
        table = self.table()
        return table[table["layer"].isna() & table["document"].isna()]

    def write_tables(self, folder: str | PathLike[str]) -> list[Path]:
        """Write every table as a CSV, and the edits and settings with them, whole or not at all.

        Args:
            folder: a new one, an empty one, or one that an earlier what-if wrote, which is replaced.

        Raises:
            InputError: the folder cannot or must not be written.
        """
        require_free(target := checked_path(folder))
        write_folder(target, MARKER, self._fill)
        return [target / name for name in _FILES]

    def _fill(self, folder: Path) -> None:
        tables = higher_package("tables")
        for name in self.TABLES:
            tables.write_csv(getattr(tables, name)(self), folder / f"{name}.csv")
        (folder / MARKER).write_text(json.dumps(dict(self.meta), indent=1) + "\n", encoding="utf-8")

    def __repr__(self) -> str:
        lines = ["What if " + "; ".join(self.sentences)]
        whole = self.overall()
        for metric in ("loss_change", "divergence_bits", "prediction_changed", "rerouted"):
            edited = whole[(whole["run"] == "edited") & (whole["metric"] == metric)].iloc[0]
            lines.append(f"  {metric:18}  {_number(edited)}{_placebo(edited)}")
        for document, (before, after) in enumerate(self.generated):
            lines += [f"  without edits  {before!r}", f"  with edits     {after!r}"]
            lines += [
                f"  placebo        {text!r}"
                for draws in self.generated_placebo[document : document + 1]
                for text in draws[:1]
            ]
        return "\n".join(lines)


def _placebo(row: Any) -> str:
    """The mean and range of the draws, and the place of the edits among them."""
    if row["null"] != row["null"]:
        return ""
    if row["placebo_low"] != row["placebo_low"]:
        return f"   placebo {row['null']:.4f}"
    draws = row["placebo_draws"]
    band = f"{draws} draws from {row['placebo_low']:.4f} to {row['placebo_high']:.4f}"
    return f"   placebo {row['null']:.4f}, {band}, rank {row['placebo_rank']} of {draws + 1}"


def _number(row: Any) -> str:
    interval = "" if row["low"] != row["low"] else f" [{row['low']:.4f}, {row['high']:.4f}]"
    # The interval is about the corrected value, where there is one.
    estimate = row["value"] if row["corrected"] != row["corrected"] else row["corrected"]
    return f"{estimate:.4f}{interval}"


_FILES = (*(f"{name}.csv" for name in WhatIf.TABLES), MARKER)


def require_free(folder: Path) -> None:
    """Raise InputError where the tables of a what-if would replace anything else."""
    check_target(folder, MARKER)
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in _FILES) if folder.is_dir() else []
    if foreign:
        raise InputError(f"{folder} may hold only the files of a what-if, got {foreign[0]}; name another folder")
