"""What each token adds to the load-balancing loss: `balance_loss_tokens`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.metrics import softmax
from mixtral_probe.stats import RoutingStats, counted_chunks, counted_rows
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import NO_LOGITS, POSITIVE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import Drawing, Metric, TableSpec
from mixtral_probe.tables.token_keys import TOKEN_KEYS, first_window, flat, token_keys
from mixtral_probe.trace import Trace


def balance_loss_tokens(trace: Trace, *, include_special: bool = False) -> pd.DataFrame:
    """Return each token's exact part c(t) = E sum_i f_i p_(t,i) of each layer's loss; its mean over tokens is the loss.

    Columns: document, chunk, position, token, layer, metric, value, corrected, low, high, null, n, scope; n is how many
    tokens f was counted over. Without router logits the table is empty and `attrs["note"]` says why.
    """
    words = tokens_scope(trace, include_special)
    scope = f"one token of one layer; E sum f p; mean over tokens is the layer's loss; {words}; one token: no interval"
    counted = np.flatnonzero(counted_rows(trace, include_special))
    value, tokens = _token_losses(trace, include_special)
    value = value[counted]
    table = pd.DataFrame(
        token_keys(trace, counted, value.shape[1:])
        | {"layer": flat(np.array(trace.layers), value.shape), "metric": _constant("token_balance_loss", value.size)}
        | {"value": value.ravel(), "corrected": np.nan, "low": np.nan, "high": np.nan}
        | {"null": 1.0, "n": flat(tokens, value.shape), "scope": _constant(scope, value.size)}
    )
    table = with_dtypes(table[table["value"].notna()].reset_index(drop=True), SPEC)
    if trace.router_logits is None:
        table.attrs["note"] = f"not enough data: {NO_LOGITS}"
    return table


def _token_losses(trace: Trace, include_special: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[T, L] c(t), NaN where it is not counted, and [L] the tokens f was counted over."""
    value = np.full((len(trace), trace.meta.num_layers), np.nan)
    total = RoutingStats.from_trace(trace, include_special=include_special).total()
    f = LossParts(trace.meta.num_experts_per_tok).share(total)[:, 0]  # [L, E]
    for part in counted_chunks(trace, counted_rows(trace, include_special)):
        if part.logits is not None:
            loss = metrics.token_balance_loss(f, softmax(part.logits)[0])  # [L, n]
            value[part.rows] = np.where(part.ids[..., 0] >= 0, loss, np.nan).T
    return value, total.tokens[:, 0]


def _constant(text: str, length: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(length, np.int8), [text])


SPEC = TableSpec(
    function=balance_loss_tokens,
    source="trace",
    description="What each token adds to the load-balancing loss.",
    keys=(*TOKEN_KEYS, "layer"),
    metrics={
        "token_balance_loss": Metric(
            "E sum f p of one token; its mean over tokens is exactly the layer's loss",
            "the token's part of the loss",
            bounds=POSITIVE,
            null="mean when balanced",
        )
    },
    figures=(Drawing("balance_loss_tokens", lambda table: [first_window(table)]),),
    narrows=True,
    per_token=True,
)
