"""What each layer would predict, as means over tokens: `logit_lens`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.frame import tidy
from mixtral_probe.tables.given import of_result
from mixtral_probe.tables.leave_one_out import estimate_rows, leave_one_out
from mixtral_probe.tables.phrases import POSITIVE, SHARE
from mixtral_probe.tables.spec import Column, Drawing, Metric, TableSpec
from mixtral_probe.trace import LogitLensResult, Result

_ARRAYS = {
    "lens_entropy_bits": "entropy_bits",
    "lens_divergence_bits": "divergence_bits",
    "lens_next_token_bits": "next_token_bits",
    "lens_agreement": "agrees",
}


@of_result
def logit_lens(result: Result) -> pd.DataFrame:
    """Return how each layer's prediction compares with that of the model, as means over tokens; special tokens are out.

    Columns: layer, group ("all"), metric, value, corrected, low, high, null, n, scope. The null is the last layer,
    which is the model; the interval leaves out documents.

    Args:
        result: of `Probe.logit_lens`.

    Raises:
        InputError: the result is of another kind.
    """
    result = LogitLensResult.require(result, "the table logit_lens")
    blocks = Blocks.of(result.document_ids)
    block = blocks.of_document[result.document]
    scope = "one layer; special tokens out; final norm and unembedding applied to the layer's residual stream"
    parts = []
    for name, array in _ARRAYS.items():
        values = result[array].astype(np.float64)  # [L, T]
        counted = ~result.special & ~np.isnan(values[0])
        tokens = np.bincount(block[counted], minlength=blocks.number).astype(np.int64)  # [Bk]
        mass = np.stack([np.bincount(block[counted], layer[counted], blocks.number) for layer in values], axis=1)
        estimate = leave_one_out(
            metrics.ratio, (mass, tokens[:, None]), tokens, folded=blocks.folded, bounds=SPEC.metrics[name].bounds
        )
        keys = {"layer": np.arange(len(values)), "group": ALL}
        n = np.full(len(values), tokens.sum())
        parts.append(estimate_rows(keys, name, estimate, estimate.value[-1], n, scope))
    return tidy(parts, SPEC)


_MODEL = "the model's own"
SPEC = TableSpec(
    function=logit_lens,
    source="result",
    description="How what each layer would predict compares with the model's own prediction.",
    keys=("layer", "group"),
    metrics={
        "lens_entropy_bits": Metric(
            "entropy of the layer's prediction, bits; null: that of the last layer",
            "entropy of the prediction, bits",
            bounds=POSITIVE,
            null=_MODEL,
        ),
        "lens_divergence_bits": Metric(
            "KL from the model's prediction to the layer's, bits; null 0",
            "KL from the model's prediction, bits",
            bounds=POSITIVE,
            null=_MODEL,
        ),
        "lens_next_token_bits": Metric(
            "surprise of the layer at the token that comes, bits; null: that of the last layer",
            "surprise at the next token, bits",
            bounds=POSITIVE,
            null=_MODEL,
        ),
        "lens_agreement": Metric(
            "share of tokens whose best prediction is the model's; null 1",
            "same best token as the model",
            ".1%",
            SHARE,
            _MODEL,
        ),
    },
    figures=(Drawing("logit_lens"),),
    narrows=False,
    meanings={"null": Column("what `metric` says", "float64")},
)
