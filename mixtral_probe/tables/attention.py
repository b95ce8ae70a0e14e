"""What each attention head does on average: `attention_summary`."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.frame import VALUE_COLUMNS, estimate, estimate_rows, tidy, typed_frame
from mixtral_probe.trace import Trace, windows_of

Floats = NDArray[np.float64]
KEYS = ("layer", "group", "head")


@dataclass(frozen=True)
class _Summary:
    sums: str
    """The name of the trace's sums it is made of."""
    scope: str
    high: float


SUMMARIES = {
    "entropy_bits": _Summary("entropy_bits", "mean over query tokens of the entropy of their attention, bits", np.inf),
    "distance": _Summary("distance", "mean over query tokens of how far back they look, tokens", np.inf),
    "sink_share": _Summary("sink", "mean over query tokens of the attention on position 0 of their window", 1.0),
}
HEADS = {
    "entropy_bits": "entropy of a query token's attention, bits",
    "distance": "mean number of tokens between a query and what it looks at",
    "sink_share": "attention on position 0 of the window",
}


def attention_summary(trace: Trace) -> pd.DataFrame:
    """Entropy, distance and sink share of each recorded head, over all query tokens of all documents, special ones too.

    Columns: layer, group ("all"), head, metric, value, low, high, null, n, scope. The null is attention spread evenly
    over a token and all before it in its window. Without recorded attention the table is empty and `attrs["note"]` says
    why.
    """
    sums = trace.attention_sums
    if sums is None:
        empty = typed_frame(pd.DataFrame(columns=[*KEYS, *VALUE_COLUMNS]))
        empty.attrs["note"] = "not enough data: no attention was recorded"
        return empty
    blocks = Blocks.of(trace.documents["id"])
    even = _even_attention(trace)
    parts = []
    for index in trace.attention_layers:
        heads = list(trace.attention_heads(index))
        tokens = np.bincount(blocks.of_document, sums["tokens"][index], blocks.number).astype(np.int64)  # [Bk]
        n = tokens.sum()
        for name, summary in SUMMARIES.items():
            mass = np.zeros((blocks.number, len(heads)))  # [Bk, heads]
            np.add.at(mass, blocks.of_document, sums[summary.sums][index][:, heads])
            value = metrics.ratio(mass.sum(0), n)
            deleted = metrics.ratio(mass.sum(0) - mass, (n - tokens)[:, None])
            found = estimate(value, deleted, tokens, blocks.folded, (0, summary.high))
            null = metrics.ratio(even[summary.sums] @ sums["tokens"][index], n)
            keys = {"layer": trace.layers[index], "group": ALL, "head": np.array(heads)}
            parts.append(estimate_rows(keys, name, found, null, n, f"one layer; all tokens; {summary.scope}"))
    return tidy(parts, KEYS)


def _even_attention(trace: Trace) -> dict[str, Floats]:
    """[documents] mean over each document's query tokens, had the i-th of its window looked at 0...i alike."""
    means = {name: np.zeros(trace.num_documents) for name in ("entropy_bits", "distance", "sink")}
    tokens = np.zeros(trace.num_documents)
    for document, _, length in windows_of(trace.tokens):
        seen = np.arange(1, length + 1)
        tokens[document] += length
        for name, values in (("entropy_bits", np.log2(seen)), ("distance", (seen - 1) / 2), ("sink", 1 / seen)):
            means[name][document] += values.sum()
    return {name: np.divide(total, tokens, out=total, where=tokens > 0) for name, total in means.items()}
