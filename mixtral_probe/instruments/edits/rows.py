"""The batch rows of a call, on which the conditions of edits depend."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model import ForwardContext


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One row of a batch: a window of a document, from position 0 on."""

    document: int = 0
    chunk: int = 0
    length: int | None = None
    """Tokens of the window; None for a full row, or one with a mask."""
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one call."""

    context: ForwardContext
    batch: tuple[BatchRow, ...] | None = None
    """The rows of the batch, if known; in a call over more rows each has several, one after the other."""

    @property
    def shape(self) -> tuple[int, int]:
        """Batch rows B and positions S."""
        if self.context.input_ids is not None:
            return tuple(self.context.input_ids.shape)  # type: ignore[return-value]
        rows, length = self.context.positions.shape
        return (max(rows, len(self.batch or ())), length)

    def of(self, row: int, rows: int) -> BatchRow:
        """Return batch row ``row`` of ``rows``; by default document ``row``, first window."""
        if self.batch is None:
            return BatchRow(row)
        return self.batch[row * len(self.batch) // rows]

    def positions(self) -> Tensor:
        """[B, S] positions in the window."""
        return self.context.positions.expand(self.shape)

    def token_ids(self) -> Tensor:
        """[B, S] token ids."""
        if self.context.input_ids is None:
            raise InputError("a condition on token ids needs input_ids, got embeddings")
        return self.context.input_ids

    def labelled(self, name: str, values: tuple[str, ...]) -> Tensor:
        """[B, 1] whether the label of the row's document is one of the values."""
        if self.batch is None:
            raise InputError(
                f"a condition on the label {name!r} needs documents; run them with Probe.trace or Probe.what_if"
            )
        if not any(name in row.labels for row in self.batch):
            labels = ", ".join(sorted({label for row in self.batch for label in row.labels})) or "none"
            raise InputError(f"a condition must be on a label of the documents ({labels}), got {name!r}")
        rows = self.shape[0]
        matches = [str(self.of(row, rows).labels.get(name)) in values for row in range(rows)]
        return torch.tensor(matches, device=self.context.positions.device)[:, None]

    def token_positions(self) -> list[tuple[BatchRow, Tensor]]:
        """Return each batch row, with the positions [n] of its tokens in it, padding left out."""
        rows, length = self.shape
        everywhere = torch.arange(length, device=self.context.positions.device)
        positions = []
        for row in range(rows):
            batch_row = self.of(row, rows)
            valid = everywhere if self.context.valid is None else everywhere[self.context.valid[row, -length:]]
            whole = batch_row.length is None or self.context.phase == "decode"
            positions.append((batch_row, valid if whole else valid[: batch_row.length]))
        return positions
