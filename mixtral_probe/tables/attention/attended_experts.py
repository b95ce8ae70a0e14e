"""Which experts the tokens that a query looks at went to: `attended_experts`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.tables.attention.maps import MAP_MEANINGS, ONE_TOKEN, WindowMaps, check_positions, one_token_rows
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import EVEN_ATTENTION, SHARE
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace


@of_trace
def attended_experts(
    trace: Trace, *, layer: int, query: int, head: int | None = None, document: int = 0, chunk: int = 0
) -> pd.DataFrame:
    """Return the share of a query's attention on the tokens of each expert.

    Columns: document, chunk, layer, head, query, expert, metric, value, corrected, low, high, null, n, scope. A token
    counts for its first choice; the null is attention spread evenly over the query and all before it; n counts those
    tokens.

    Raises:
        InputError: the layer, head, window or query does not exist.
    """
    window = WindowMaps.of(trace, document, chunk)
    weights = window.weights(layer, head)
    check_positions(query, query + 1, len(weights))
    first = window.experts(layer)[: query + 1, 0]
    even_weights = np.full(query + 1, 1 / (query + 1))
    value, even = metrics.attended_share([weights[query, : query + 1], even_weights], first, trace.num_experts)
    columns = window.keys(layer, head, np.full(len(value), query)) | {"expert": np.arange(len(value))}
    n = int((first >= 0).sum())
    scope = f"one query; first choices in the same layer of what it looks at; special tokens too; {ONE_TOKEN}"
    missing = "not enough data: no token before it went to an expert"
    return one_token_rows(SPEC, columns, value, even, n, scope if n else missing)


SPEC = TableSpec(
    function=attended_experts,
    source="part",
    description="The share of a query's attention on the tokens of each expert.",
    keys=("document", "chunk", "layer", "head", "query", "expert"),
    metrics={
        "attended_share": Metric(
            "share of the attention of `query` on tokens whose first choice is the expert; over experts it sums to 1",
            "share of the attention",
            ".1%",
            SHARE,
            EVEN_ATTENTION,
        )
    },
    figures=(),
    narrows=False,
    meanings={"query": MAP_MEANINGS["query"]},
)
