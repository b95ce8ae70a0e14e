"""Instruments attached to a run: edits are told what a batch holds, and the record tells of the edits."""

from collections.abc import Sequence

import pandas as pd

from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import BatchRow, Edit
from mixtral_probe.model import Instrument
from mixtral_probe.trace import TraceMeta


def attached(
    instruments: Sequence[Instrument], documents: pd.DataFrame, windows: Sequence[Window]
) -> tuple[Instrument, ...]:
    """The instruments for one batch, in order; ``documents`` holds the labels of all, ``windows`` a window a row."""
    if not any(isinstance(instrument, Edit) for instrument in instruments):
        return tuple(instruments)
    labels = documents.drop(columns=["document", "id"])
    rows = [
        BatchRow(w.document, w.chunk, w.length, {str(k): v for k, v in labels.iloc[w.document].items()})
        for w in windows
    ]
    return tuple(i.among(rows) if isinstance(i, Edit) else i for i in instruments)


def with_edits(meta: TraceMeta, instruments: Sequence[Instrument]) -> TraceMeta:
    """What a trace says about itself, with the settings of the edits, and room for the experts they may choose."""
    edits = [instrument for instrument in instruments if isinstance(instrument, Edit)]
    most = max([meta.num_experts_per_tok, *(edit.most_experts(meta.num_experts_per_tok) for edit in edits)])
    settings = [edit.settings() for edit in edits]
    others = [entry for entry in meta.instruments if entry["name"] not in {type(edit).__name__ for edit in edits}]
    return TraceMeta(**meta.model_dump() | {"num_experts_per_tok": most, "instruments": [*settings, *others]})
