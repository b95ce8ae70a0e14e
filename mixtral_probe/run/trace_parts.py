"""Traces of some documents each, kept until every document has one, then joined into one trace."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mixtral_probe.files import require_space, write_bytes
from mixtral_probe.json_files import MOST_BYTES
from mixtral_probe.reading import one_sentence, read_bounded
from mixtral_probe.run.parts_folder import PLAN, PartsFolder
from mixtral_probe.stats.cached_stats import add_stats
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta
from mixtral_probe.trace.storage.folder import MARKER


@dataclass(frozen=True, slots=True)
class TracePart:
    """The trace of some documents, in ascending order of their numbers in the whole."""

    documents: Sequence[int]
    trace: Trace


class TraceParts(ExitStack):
    """Parts by number: in memory, or in ``<path>.parts``, where the same run finds them again.

    A context manager: while it is open, no other run writes the path.

    Args:
        path: of the final trace.
        name: the same for two runs with the same parts.

    Raises:
        InputError: the path is taken or is being written, or the folder holds parts of another run.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        super().__init__()
        self.path, self._parts = path, dict[int, TracePart]()
        self._folder = None if path is None else self.enter_context(PartsFolder(path, MARKER, name))
        if self._folder is not None:
            self._parts = dict(_complete(self._folder.path))

    @property
    def ready(self) -> list[TracePart]:
        """The complete parts."""
        return list(self._parts.values())

    def get(self, number: int) -> TracePart | None:
        """A part, or None where it is not complete."""
        return self._parts.get(number)

    def put(self, number: int, part: TracePart) -> None:
        """Keep a part, on disk where the parts have a folder."""
        if self._folder is not None:
            saved = self._folder.path / f"{number:06d}.trace"
            part.trace.save(saved)
            write_bytes(saved.with_suffix(".json"), json.dumps([int(d) for d in part.documents]).encode())
            part = TracePart(part.documents, Trace.load(saved))
        self._parts[number] = part

    def joined(self, meta: TraceMeta, attention: AttentionPlan | None, router_logits: bool) -> Trace:
        """One trace of all the documents, in the order of their numbers."""
        if self.path is None and len(self._parts) == 1:
            return self.ready[0].trace
        places = sorted(
            ((d, place, part.trace) for part in self.ready for place, d in enumerate(part.documents)),
            key=lambda p: p[0],
        )
        documents = [trace.documents.iloc[[place]].assign(document=d) for d, place, trace in places]
        tokens = [trace.tokens.iloc[trace.rows(place)].assign(document=d) for d, place, trace in places]
        frame = pd.concat([rows.astype({"piece": object}) for rows in tokens])
        ends = np.cumsum([len(rows) for rows in tokens]).tolist()
        with TraceBuilder(
            pd.concat(documents), frame, meta, self.path, attention=attention, record_logits=router_logits
        ) as builder:
            for document in builder.pending:
                _, place, trace = places[document]
                _copy(builder, document, slice(ends[document] - len(tokens[document]), ends[document]), trace, place)
            builder.mark_done(builder.pending)
            return builder.finish(add_stats)

    def require_space(self, needed: int) -> None:
        """Raise InputError where the disk does not take so many bytes, less those of the parts there are."""
        if self._folder is not None:
            present = sum(file.stat().st_size for file in self._folder.path.rglob("*") if file.is_file())
            require_space(self._folder.path, needed - present)

    def remove(self) -> None:
        """Delete all parts, also on disk."""
        self._parts.clear()
        if self._folder is not None:
            self._folder.remove()


def _complete(folder: Path) -> Iterator[tuple[int, TracePart]]:
    """The complete parts in a folder by number: a part's documents are written after its trace."""
    for file in sorted(folder.glob("*.json")):
        if file.name != PLAN:
            with one_sentence("an unfinished capture must hold its parts", file, f"delete {folder}"):
                numbered = int(file.stem), _part(file)
            yield numbered


def _part(file: Path) -> TracePart:
    documents, trace = json.loads(read_bounded(file, MOST_BYTES)), Trace.load(file.with_suffix(".trace"))
    known = isinstance(documents, list) and all(type(number) is int for number in documents)
    if not known or len(documents) != trace.num_documents:
        raise ValueError(f"it must list the {trace.num_documents} documents of its trace by number")
    return TracePart(documents, trace)


def _copy(builder: TraceBuilder, document: int, target: slice, trace: Trace, place: int) -> None:
    """One document of a trace into the rows ``target`` of a builder."""
    rows = trace.rows(place)
    for name in ("router_logits", "expert_ids", "expert_weights"):
        if (values := getattr(trace, name)) is not None:
            getattr(builder, name)[:, target] = values[:, rows]
    builder.nll[target] = trace.tokens["nll"].to_numpy()[rows]
    builder.predicted_id[target] = trace.tokens["predicted_id"].fillna(-1).to_numpy()[rows]
    record = trace.attention_record
    if record is None or builder.attention_sums is None:
        return
    for name, values in record.sums.items():
        builder.attention_sums[name][:, document] = values[:, place]
    for layer in record.plan.layers if record.plan.maps else ():
        builder.attention_block(document, 0, layer)[...] = record.block(place, 0, layer)
