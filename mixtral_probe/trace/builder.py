"""The builder of a trace: its arrays exist at full size from the start and are filled in place."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from mixtral_probe import files
from mixtral_probe.errors import InputError
from mixtral_probe.paths import checked_path
from mixtral_probe.trace import checks, finite
from mixtral_probe.trace.attention import AttentionPlan, AttentionRecord, clear_sums, map_name
from mixtral_probe.trace.meta import TraceMeta, utc_now
from mixtral_probe.trace.storage import folder as storage
from mixtral_probe.trace.storage import workspace
from mixtral_probe.trace.storage.plan import RunPlan
from mixtral_probe.trace.trace import Trace

AddFiles = Callable[[Trace, Path], None]
"""Takes a trace and its folder."""
_CHECKED_ROWS = 8192
_ENOUGH_ROWS = 16
"""Rows of logits that are all like probabilities: fewer may be so by chance."""


class TraceBuilder:
    """Arrays to fill while documents run, in memory or on disk, which become a Trace at the end.

        builder = TraceBuilder(documents, tokens, meta, "out.trace")
        for document in builder.pending:
            builder.expert_ids[:, rows] = ...
            builder.mark_done([document])
        trace = builder.finish()

    `documents` (id and labels) and `tokens` (at least document and token_id) are the tables of the new
    trace; rows are in the order document, chunk, position. With `path` everything lives in `<path>.partial`
    at its full size until `finish` renames it; an interrupted run is continued by creating the same
    builder again. `added_bytes` is the size of files that `finish` will add. A builder keeps
    others from writing `path` until `finish`, `close` or the end of its `with` block.
    Raises InputError when the disk is too full, `path` is in use, or `<path>.partial` belongs to another run.
    """

    expert_ids: np.ndarray
    """[L, T, K] int16, to be filled; −1 where fewer than K experts were chosen."""
    expert_weights: np.ndarray
    """[L, T, K] float32, to be filled; 0 where the id is −1."""
    router_logits: np.ndarray | None
    """[L, T, E] float32, to be filled; None with `record_logits=False`."""
    nll: np.ndarray
    """[T] float32, nats, of this row's token; NaN until filled."""
    predicted_id: np.ndarray
    """[T] int32, the most likely next token; −1 (missing) until filled."""

    def __init__(
        self,
        documents: pd.DataFrame,
        tokens: pd.DataFrame,
        meta: TraceMeta,
        path: str | PathLike[str] | None = None,
        *,
        attention: AttentionPlan | None = None,
        record_logits: bool = True,
        added_bytes: int = 0,
    ) -> None:
        created = meta.model_copy(update={"created": meta.created or utc_now()})
        self._plan = RunPlan(documents, tokens, created, attention, record_logits, added_bytes)
        self.path = None if path is None else checked_path(path)
        self._workspace = workspace.in_memory(self._plan) if self.path is None else self._on_disk(self.path)
        self._attention: AttentionRecord | None = None
        if attention is not None and self._workspace.attention is not None:
            self._attention = AttentionRecord(attention, self._workspace.attention)
        arrays = {name: array.view(np.ndarray) for name, array in self._workspace.arrays.items()}
        self._done = arrays["done"]
        self.expert_ids, self.expert_weights = arrays["expert_ids"], arrays["expert_weights"]
        self.router_logits = arrays.get("router_logits")
        self.nll, self.predicted_id = arrays["nll"], arrays["predicted_id"]
        self._clear_pending()

    def _on_disk(self, path: Path) -> workspace.Workspace:
        self._release = weakref.finalize(self, files.lock_output(path).release)
        try:
            return workspace.on_disk(self._plan, path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write the path. A run that is not finished is continued by creating the same builder again."""
        if self.path is not None:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def documents(self) -> pd.DataFrame:
        """The documents table of the new trace."""
        return self._plan.documents

    @property
    def tokens(self) -> pd.DataFrame:
        """The tokens table of the new trace, all columns; `nll` and `predicted_id` are filled at the end."""
        return self._plan.tokens

    @property
    def meta(self) -> TraceMeta:
        """The meta of the new trace."""
        return self._plan.meta.model_copy(update={"created": self._workspace.created})

    @property
    def pending(self) -> list[int]:
        """The documents that are still to run, ascending."""
        return [int(document) for document in np.flatnonzero(~self._done)]

    @property
    def attention_plan(self) -> AttentionPlan | None:
        """The layers and heads whose attention is to be filled in."""
        return self._plan.attention

    @property
    def attention_sums(self) -> dict[str, np.ndarray] | None:
        """Arrays to add to: `tokens` [L, D]; `entropy_bits`, `distance`, `sink` [L, D, H] (NaN: not planned)."""
        return None if self._attention is None else self._attention.sums

    def attention_block(self, document: int, chunk: int, layer: int) -> np.ndarray:
        """[heads, S(S+1)/2] float16 to fill: the planned heads of one window, as `pack_triangle` lays them out."""
        if self._attention is None:
            raise InputError("recording attention needs an AttentionPlan, got none")
        return self._attention.block(document, chunk, layer)

    def write_attention(self, document: int, chunk: int, layer: int, heads: Sequence[int], packed: np.ndarray) -> None:
        """Fill in some planned heads of a window, [heads, S(S+1)/2]; on disk they take no memory of this process."""
        self.attention_block(document, chunk, layer)
        assert self._attention is not None
        planned = self._attention.plan.layers[layer]
        for head, values in zip(heads, packed, strict=True):
            self._workspace.write_attention(map_name(document, chunk, layer), planned.index(head), values)

    def mark_done(self, documents: Iterable[int]) -> None:
        """Mark the rows of these documents as filled; on disk they then survive even a power cut.

        Raises:
            InputError: what was filled breaks a rule of traces.
        """
        completed = list(documents)
        for rows in self._rows_in_parts(completed):
            self._check_rows(rows)
        self._workspace.flush()
        self._done[completed] = True
        self._workspace.flush_done()

    def _rows_in_parts(self, documents: Sequence[int]) -> Iterator[np.ndarray]:
        """The rows of some documents, a bounded number at a time."""
        rows = np.flatnonzero(np.isin(self.tokens["document"].to_numpy(), documents))
        return (rows[start : start + _CHECKED_ROWS] for start in range(0, len(rows), _CHECKED_ROWS))

    def _check_rows(self, rows: np.ndarray) -> None:
        ids, weights = self.expert_ids[:, rows], self.expert_weights[:, rows]
        logits = None if self.router_logits is None else self.router_logits[:, rows]
        checks.check_expert_ids(ids, self._plan.meta.num_experts, rows)
        checks.check_weights(weights, ids)
        finite.require_finite(ids, weights, logits, rows)
        if logits is not None and (ids[..., 0] >= 0).sum() >= _ENOUGH_ROWS and finite.are_probabilities(logits):
            raise finite.probabilities_refused()

    def finish(self, add: AddFiles | None = None) -> Trace:
        """Return the trace, checked, and on disk under its final name. Every document must be done.

        `add`, called before a folder has its final name, adds files to it. The builder cannot be
        used again: its arrays now belong to the trace.
        """
        if self.pending:
            raise InputError(f"a trace needs every document filled, got {len(self.pending)} that are not; fill them")
        predicted = pd.arrays.IntegerArray(np.array(self.predicted_id), self.predicted_id < 0)
        trace = Trace(
            documents=self.documents,
            tokens=self.tokens.assign(nll=np.array(self.nll), predicted_id=predicted),
            expert_ids=self.expert_ids,
            meta=self.meta.without_choice(self.expert_ids),
            expert_weights=self.expert_weights,
            router_logits=self.router_logits,
            attention_record=self._attention,
        )
        return trace if self.path is None else self._publish(trace, self.path, add)

    def _publish(self, trace: Trace, path: Path, add: AddFiles | None) -> Trace:
        folder = workspace.partial_folder(path)
        with files.plain_errors(path):
            self._workspace.flush()
            storage.write_tables(folder, trace.documents, trace.tokens)
            content = storage.content_fingerprint(trace.documents, trace.tokens, trace.arrays)
            storage.write_description(folder, trace.meta, len(trace.tokens), len(trace.documents), content)
            if add is not None:
                add(trace, folder)
            files.publish(folder, path, storage.MARKER)
            files.discard(path / workspace.RUN, path)
        self.close()
        return Trace.load(path)

    def _clear_pending(self) -> None:
        """Reset the documents that are not done: what an interrupted one added must not count twice."""
        pending = self.pending
        rows = np.isin(self.tokens["document"].to_numpy(), pending)
        self.nll[rows] = np.nan
        self.predicted_id[rows] = -1
        if self._attention is not None:
            clear_sums(self._attention, pending)
