"""Edits in a run: bound to the rows of each batch, and recorded in the meta of the trace."""

from collections.abc import Sequence

import pandas as pd

from mixtral_probe.instruments import Window
from mixtral_probe.instruments.edits import BatchRow, Edit
from mixtral_probe.model import Instrument
from mixtral_probe.trace import TraceMeta


def bind_edits(
    instruments: Sequence[Instrument], documents: pd.DataFrame, windows: Sequence[Window]
) -> tuple[Instrument, ...]:
    """Instruments for one batch, in order, edits bound to its rows.

    Args:
        documents: the labels of all documents.
        windows: one for each row of the batch.
    """
    if not any(isinstance(instrument, Edit) for instrument in instruments):
        return tuple(instruments)
    labels = documents.drop(columns=["document", "id"])
    rows = [
        BatchRow(w.document, w.chunk, w.length, {str(k): v for k, v in labels.iloc[w.document].items()})
        for w in windows
    ]
    return tuple(i.among(rows) if isinstance(i, Edit) else i for i in instruments)


def with_edits(meta: TraceMeta, instruments: Sequence[Instrument]) -> TraceMeta:
    """The meta of a trace with the settings of the edits, and as many experts per token as they may choose."""
    edits = [instrument for instrument in instruments if isinstance(instrument, Edit)]
    most = max([meta.num_experts_per_tok, *(edit.most_experts(meta.num_experts_per_tok) for edit in edits)])
    settings = [edit.settings() for edit in edits]
    others = [entry for entry in meta.instruments if entry["name"] not in {type(edit).__name__ for edit in edits}]
    return TraceMeta(**meta.model_dump() | {"num_experts_per_tok": most, "instruments": [*settings, *others]})
