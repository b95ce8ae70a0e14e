"""What each layer would predict, token by token: `logit_lens_tokens`."""

import numpy as np
import pandas as pd

from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.spec import VALUES, Column, Drawing, Metric, TableSpec
from mixtral_probe.tables.token_keys import first_window
from mixtral_probe.trace import LogitLensResult, Result


@of_result
def logit_lens_tokens(result: Result) -> pd.DataFrame:
    """Return the most probable next tokens by the prediction of each layer, after each token, special ones too.

    Columns: document, chunk, position, token, layer, rank, predicted (text), metric, value, corrected, low, high, null,
    n, scope.

    Args:
        result: of `Probe.logit_lens`.

    Raises:
        InputError: the result is of another kind.
    """
    result = LogitLensResult.require(result, "the table logit_lens_tokens")
    predicted = result.predicted_id.swapaxes(0, 1)  # [T, L, top]
    shape = predicted.shape
    ids, codes = np.unique(predicted, return_inverse=True)
    texts = pd.Series([result.pieces[str(token)] for token in ids], dtype=object).to_numpy()
    places = {name: np.repeat(result[name], shape[1] * shape[2]) for name in ("document", "chunk", "position")}
    scope = "one token of one layer; the token after this one; one token: no interval"
    frame = pd.DataFrame(
        places
        | {
            "token": np.repeat(np.array(result.axis("token"), dtype=object), shape[1] * shape[2]),
            "layer": np.broadcast_to(np.arange(shape[1])[:, None], shape).ravel(),
            "rank": np.broadcast_to(np.arange(shape[2]), shape).ravel(),
            "predicted": texts[codes.ravel()],
            "metric": "lens_probability",
            "value": result.probability.swapaxes(0, 1).ravel().astype(np.float64),
            "corrected": np.nan,
            "low": np.nan,
            "high": np.nan,
            "null": 1 / result.vocab_size,
            "n": 1,
            "scope": scope,
        }
    )
    return with_dtypes(frame, SPEC)


SPEC = TableSpec(
    function=logit_lens_tokens,
    source="result",
    description="The most probable next tokens by the prediction of each layer, after every token.",
    keys=("document", "chunk", "position", "token", "layer", "rank"),
    metrics={
        "lens_probability": Metric(
            "probability the layer gives to a token as the next; null: an even guess, 1/V",
            "probability",
            ".1%",
            SHARE,
            "even guess",
        )
    },
    figures=(Drawing("logit_lens_tokens", lambda table: [first_window(table)]),),
    narrows=False,
    values=("predicted", *VALUES),
    meanings={
        "rank": Column("place among the layer's predictions, 0 = most probable", "Int64"),
        "predicted": Column("text of the token predicted", "str"),
        "null": Column("what `metric` says", "float64"),
    },
)
