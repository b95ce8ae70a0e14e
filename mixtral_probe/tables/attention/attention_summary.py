"""What each attention head does on average: `attention_summary`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.frame import empty, tidy
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import EVEN_ATTENTION, POSITIVE, SHARE
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.trace import Trace, windows_of

Floats = NDArray[np.float64]
_SUMS = {"entropy_bits": "entropy_bits", "distance": "distance", "sink_share": "sink"}
"""The name of the trace's sums by metric."""
_SCOPES = {
    "entropy_bits": "mean over query tokens of the entropy of their attention, bits",
    "distance": "mean over query tokens of how far back they look, tokens",
    "sink_share": "mean over query tokens of the attention on position 0 of their window",
}


@of_trace
def attention_summary(trace: Trace) -> pd.DataFrame:
    """Return entropy, distance and sink share of each recorded head, over all query tokens, special ones too.

    Columns: layer, group ("all"), head, metric, value, corrected, low, high, null, n, scope. The null is attention
    spread evenly over a token and all before it in its window. Without recorded attention the table is empty and
    `attrs["note"]` says why.
    """
    sums = trace.attention_sums
    if sums is None:
        return empty(SPEC, "no attention was recorded")
    blocks, even, parts = Blocks.of(trace.documents["id"]), _even_attention(trace), []
    for index in trace.attention_layers:
        heads = list(trace.attention_heads(index))
        tokens = np.bincount(blocks.of_document, sums["tokens"][index], blocks.number).astype(np.int64)  # [Bk]
        keys = {"layer": trace.layers[index], "group": ALL, "head": np.array(heads)}
        for metric, name in _SUMS.items():
            mass = np.zeros((blocks.number, len(heads)))  # [Bk, heads]
            np.add.at(mass, blocks.of_document, sums[name][index][:, heads])
            estimate = leave_one_out(
                metrics.ratio,
                (mass, tokens[:, None]),
                tokens,
                folded=blocks.folded,
                bounds=SPEC.metrics[metric].bounds,
            )
            null = metrics.ratio(even[name] @ sums["tokens"][index], tokens.sum())
            scope = f"one layer; all tokens; {_SCOPES[metric]}"
            parts.append(estimate_rows(keys, metric, estimate, null, tokens.sum(), scope))
    return tidy(parts, SPEC)


def _even_attention(trace: Trace) -> dict[str, Floats]:
    """[documents] mean over each document's query tokens, if the i-th of its window attended to 0...i evenly."""
    means = {name: np.zeros(trace.num_documents) for name in _SUMS.values()}
    tokens = np.zeros(trace.num_documents)
    for document, _, length in windows_of(trace.tokens):
        seen = np.arange(1, length + 1)
        tokens[document] += length
        for name, values in (("entropy_bits", np.log2(seen)), ("distance", (seen - 1) / 2), ("sink", 1 / seen)):
            means[name][document] += values.sum()
    return {name: np.divide(total, tokens, out=total, where=tokens > 0) for name, total in means.items()}


SPEC = TableSpec(
    function=attention_summary,
    source="trace",
    description=(
        "What each recorded attention head does on average; null: attention spread evenly over what came before."
    ),
    keys=("layer", "group", "head"),
    metrics={
        "entropy_bits": Metric(
            "entropy of a query token's attention, bits", "entropy, bits", bounds=POSITIVE, null=EVEN_ATTENTION
        ),
        "distance": Metric(
            "mean number of tokens between a query and what it looks at",
            "distance, tokens",
            bounds=POSITIVE,
            null=EVEN_ATTENTION,
        ),
        "sink_share": Metric(
            "attention on position 0 of the window", "share on position 0", ".1%", SHARE, EVEN_ATTENTION
        ),
    },
    figures=tuple(Drawing("attention_summary", {"metric": metric}) for metric in _SUMS),
    narrows=False,
)
