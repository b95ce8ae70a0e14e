"""Which tokens of a call an edit is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.model import ForwardContext


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What one row of a batch holds: a window of a document, from position 0 on."""

    document: int = 0
    chunk: int = 0
    length: int | None = None
    """Tokens of the window; None where the row is full, or its mask tells."""
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one call: what is known of their tokens."""

    context: ForwardContext
    batch: tuple[BatchRow, ...] | None = None
    """What the rows hold, where the engine says it; a call over more rows has several for each, side by side."""

    @property
    def shape(self) -> tuple[int, int]:
        """B, S."""
        if self.context.input_ids is not None:
            return tuple(self.context.input_ids.shape)  # type: ignore[return-value]
        rows, length = self.context.positions.shape
        return (max(rows, len(self.batch or ())), length)

    def of(self, row: int, rows: int) -> BatchRow:
        """What batch row ``row`` of ``rows`` holds; by default document ``row``, first window."""
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
        """[B, 1] whether the row's document has one of the values as its label."""
        if self.batch is None:
            raise InputError(
                f"a condition on the label {name!r} needs documents; run them with Probe.trace or Probe.what_if"
            )
        if not any(name in row.labels for row in self.batch):
            held = ", ".join(sorted({label for row in self.batch for label in row.labels})) or "none"
            raise InputError(f"a condition must be on a label of the documents ({held}), got {name!r}")
        rows = self.shape[0]
        held_values = [str(self.of(row, rows).labels.get(name)) in values for row in range(rows)]
        return torch.tensor(held_values, device=self.context.positions.device)[:, None]

    def spans(self) -> list[tuple[BatchRow, Tensor]]:
        """For each batch row what it holds, and the places [n] of its tokens in it, padding left out."""
        rows, length = self.shape
        everywhere = torch.arange(length, device=self.context.positions.device)
        spans = []
        for row in range(rows):
            held = self.of(row, rows)
            own = everywhere if self.context.valid is None else everywhere[self.context.valid[row, -length:]]
            spans.append((held, own if held.length is None or self.context.phase == "decode" else own[: held.length]))
        return spans
