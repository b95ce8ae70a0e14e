"""What each layer would predict: `logit_lens` over all tokens, `logit_lens_tokens` token by token."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.stats import ALL, Blocks
from mixtral_probe.tables.frame import VALUE_COLUMNS, estimate, estimate_rows, tidy
from mixtral_probe.trace import LogitLensResult, Result

Floats = NDArray[np.float64]
KEYS = ("layer", "group")
TOKEN_KEYS = ("document", "chunk", "position", "token", "layer", "rank")
LOGIT_LENS = {
    "lens_entropy_bits": "entropy of the layer's prediction, bits; null: that of the last layer",
    "lens_divergence_bits": "KL from the model's prediction to the layer's, bits; null 0",
    "lens_next_token_bits": "surprise of the layer at the token that comes, bits; null: that of the last layer",
    "lens_agreement": "share of tokens whose best prediction is the model's; null 1",
}
_ARRAYS = {
    "lens_entropy_bits": ("entropy_bits", np.inf),
    "lens_divergence_bits": ("divergence_bits", np.inf),
    "lens_next_token_bits": ("next_token_bits", np.inf),
    "lens_agreement": ("agrees", 1.0),
}
COLUMNS = {
    "rank": "place among the layer's predictions, 0 = most probable",
    "predicted": "text of the token predicted",
    "null": "what `metric` says",
}
"""What these tables' columns mean."""
LOGIT_LENS_TOKENS = {"lens_probability": "probability the layer gives to a token as the next; null: an even guess, 1/V"}


def logit_lens(result: Result) -> pd.DataFrame:
    """How each layer's prediction compares with the model's own, the mean over tokens; special tokens are out.

    Columns: layer, group ("all"), metric, value, low, high, null, n, scope. The null is the last layer, which is the
    model; the interval leaves out documents.

    Args:
        result: of `Probe.logit_lens`.

    Raises:
        InputError: it is the result of something else.
    """
    result = LogitLensResult.require(result, "the table logit_lens")
    counted = ~result.special
    blocks = Blocks.of(result.document_ids)
    block = blocks.of_document[result.document]
    parts = []
    for name, (array, high) in _ARRAYS.items():
        values = result[array].astype(np.float64)  # [L, T]
        kept = counted & ~np.isnan(values[0])
        tokens = np.bincount(block[kept], minlength=blocks.number).astype(np.int64)
        mass = np.stack([np.bincount(block[kept], layer[kept], blocks.number) for layer in values], axis=1)  # [Bk, L]
        value = metrics.ratio(mass.sum(0), tokens.sum())
        deleted = metrics.ratio(mass.sum(0) - mass, (tokens.sum() - tokens)[:, None])
        found = estimate(value, deleted, tokens, blocks.folded, (0.0, high))
        n = np.full(len(values), tokens.sum())
        scope = "one layer; special tokens out; final norm and unembedding applied to the layer's residual stream"
        own = {"layer": np.arange(len(values)), "group": ALL}
        parts.append(estimate_rows(own, name, found, value[-1], n, scope))
    return tidy(parts, KEYS)


def logit_lens_tokens(result: Result) -> pd.DataFrame:
    """The tokens each layer holds for the most probable next ones, after every token, special ones too.

    Columns: document, chunk, position, token, layer, rank, predicted (text), metric, value, low, high, null, n, scope.

    Args:
        result: of `Probe.logit_lens`.

    Raises:
        InputError: it is the result of something else.
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
            "low": np.nan,
            "high": np.nan,
            "null": 1 / result.vocab_size,
            "n": 1,
            "scope": scope,
        }
    )
    whole = ["document", "chunk", "position", "layer", "rank", "n"]
    return frame[[*TOKEN_KEYS, "predicted", *VALUE_COLUMNS]].astype(dict.fromkeys(whole, "Int64"))
