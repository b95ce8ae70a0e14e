"""Traces of some documents each, kept until every document has one, then joined into one trace."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mixtral_probe.errors import InputError
from mixtral_probe.files import check_target, plain_errors, write_bytes
from mixtral_probe.trace import AttentionPlan, Trace, TraceBuilder, TraceMeta
from mixtral_probe.trace.storage.folder import MARKER

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class TracePart:
    """The trace of some documents, in ascending order of their numbers in the whole."""

    documents: Sequence[int]
    trace: Trace


class TraceParts:
    """Parts by number: in memory, or in ``<path>.parts``, where the same run finds them again.

    Args:
        path: of the final trace.
        name: the same for two runs with the same parts.

    Raises:
        InputError: the path is taken, or the folder holds parts of another run.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        self.path, self._parts = path, dict[int, TracePart]()
        self.folder = None if path is None else parts_folder(path)
        if path is not None and self.folder is not None:
            check_target(path, MARKER)
            with plain_errors(self.folder):
                self._open(self.folder, name)

    @property
    def ready(self) -> list[TracePart]:
        """The complete parts."""
        return list(self._parts.values())

    def get(self, number: int) -> TracePart | None:
        """A part, or None where it is not complete."""
        return self._parts.get(number)

    def put(self, number: int, part: TracePart) -> None:
        """Keep a part, on disk where the parts have a folder."""
        if self.folder is not None:
            saved = self.folder / f"{number:06d}.trace"
            part.trace.save(saved)
            write_bytes(self.folder / f"{number:06d}.json", json.dumps([int(d) for d in part.documents]).encode())
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
        builder = TraceBuilder(
            pd.concat(documents), frame, meta, self.path, attention=attention, record_logits=router_logits
        )
        ends = np.cumsum([len(rows) for rows in tokens]).tolist()
        for document in builder.pending:
            _, place, trace = places[document]
            _copy(builder, document, slice(ends[document] - len(tokens[document]), ends[document]), trace, place)
        builder.mark_done(builder.pending)
        return builder.finish()

    def remove(self) -> None:
        """Delete all parts, also on disk."""
        self._parts.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder)

    def _open(self, folder: Path, name: str) -> None:
        open_parts(folder, name)
        for file in sorted(folder.glob("*.json")):
            if file.name != PLAN:
                self._parts[int(file.stem)] = TracePart(
                    json.loads(file.read_text()), Trace.load(file.with_suffix(".trace"))
                )


def parts_folder(path: Path) -> Path:
    """The folder of the parts of an unfinished trace or result."""
    return path.with_name(f"{path.name}.parts")


def open_parts(folder: Path, name: str) -> None:
    """Create the folder of a run's parts, or raise InputError where it holds those of another run."""
    if not folder.exists():
        with plain_errors(folder):
            folder.mkdir(parents=True)
        write_bytes(folder / PLAN, json.dumps({"name": name}).encode())
    if not (folder / PLAN).is_file() or json.loads((folder / PLAN).read_text()).get("name") != name:
        raise InputError(
            f"{folder} must hold this run, got an unfinished run with another model, text or settings; "
            "finish that one, delete the folder, or write elsewhere"
        )


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
