"""Which tokens each expert promotes: `promoted_tokens`."""

import numpy as np
import pandas as pd

from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Result, SaliencyResult


@of_result
def promoted_tokens(result: Result) -> pd.DataFrame:
    """Return the tokens whose logits an expert raises most, compared with the layer's other experts (logit lens).

    Columns: layer, expert, place, token_id, token, logit, n. The logit is that of the expert's mean addition to the
    residual stream, over the root mean square of the stream in that layer, less the mean addition of all the layer's
    experts, after the final norm's weights and the unembedding, less its mean over the vocabulary.

    Raises:
        InputError: the result is of another kind.
    """
    result = SaliencyResult.require(result, "the table promoted_tokens")
    layer, expert, place = np.nonzero(result.promoted_ids >= 0)
    ids = result.promoted_ids[layer, expert, place]
    table = pd.DataFrame(
        {
            "layer": layer, "expert": expert, "place": place, "token_id": ids,
            "token": pd.Series([result.pieces[str(i)] for i in ids.tolist()], dtype="str"),
            "logit": result.promoted_logits[layer, expert, place],
            "n": result.counts.sum(1)[layer, expert].astype(np.int64),
        }
    )  # fmt: skip
    return with_dtypes(table, SPEC)


SPEC = TableSpec(
    function=promoted_tokens,
    source="result",
    description="The tokens whose logits an expert raises most, beyond what the layer's experts do on average.",
    keys=("layer", "expert", "place"),
    metrics={},
    figures=(),
    narrows=False,
    values=("token_id", "token", "logit", "n"),
    meanings={
        "place": Column("place in the list, 0 = first", "Int64"),
        "token_id": Column("id of the token", "Int64"),
        "logit": Column(
            "how much the expert's mean addition raises the token's logit, beyond that of the layer's experts",
            "float64",
        ),
        "n": Column("tokens the expert was chosen for", "Int64"),
    },
)
