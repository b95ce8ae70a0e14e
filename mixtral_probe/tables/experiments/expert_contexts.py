"""Where each expert adds most: `expert_contexts`."""

import numpy as np
import pandas as pd

from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Result, SaliencyResult


@of_result
def expert_contexts(result: Result) -> pd.DataFrame:
    """Return where each expert adds most to the residual stream: the tokens, and those around them.

    Columns: layer, expert, place, document, chunk, position, before, token, after, contribution, n. The contribution
    is the routing weight times the length of the expert's output.

    Raises:
        InputError: the result is of another kind.
    """
    result = SaliencyResult.require(result, "the table expert_contexts")
    layer, expert, place = np.nonzero(result.context_rows >= 0)
    contexts = [result.contexts[str(row)] for row in result.context_rows[layer, expert, place].tolist()]
    table = pd.DataFrame({"layer": layer, "expert": expert, "place": place})
    for name in ("document", "chunk", "position"):
        table[name] = np.array([context[name] for context in contexts], np.int64)
    for name in ("before", "token", "after"):
        table[name] = pd.Series([context[name] for context in contexts], dtype="str")
    table["contribution"] = result.context_scores[layer, expert, place]
    return with_dtypes(table.assign(n=result.counts.sum(1)[layer, expert].astype(np.int64)), SPEC)


SPEC = TableSpec(
    function=expert_contexts,
    source="result",
    description="Where each expert adds most to the residual stream, with the text around it.",
    keys=("layer", "expert", "place"),
    metrics={},
    figures=(),
    narrows=False,
    values=("document", "chunk", "position", "before", "token", "after", "contribution", "n"),
    meanings={
        "place": Column("place in the list, 0 = first", "Int64"),
        "before": Column("text before the token, at most 12 tokens", "str"),
        "after": Column("text after the token, at most 12 tokens", "str"),
        "contribution": Column("routing weight times length of the expert's output", "float64"),
        "n": Column("tokens the expert was chosen for", "Int64"),
    },
)
