"""What each token adds to the load-balancing loss: `balance_loss_tokens`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.metrics import softmax
from mixtral_probe.stats import RoutingStats, Sums, counted_chunks, counted_rows
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.losses.loss_parts import LossParts
from mixtral_probe.tables.phrases import INDEPENDENT, NO_LOGITS, PERMUTED_EXPERTS, POSITIVE
from mixtral_probe.tables.scope import tokens_scope
from mixtral_probe.tables.spec import VALUES_WITH_BALANCED, Drawing, Metric, TableSpec
from mixtral_probe.tables.token_keys import TOKEN_KEYS, first_window, flat, token_keys
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]


@of_trace
def balance_loss_tokens(trace: Trace, *, include_special: bool = False) -> pd.DataFrame:
    """Return each token's exact part c(t) = E sum_i f_i p_(t,i) of each layer's loss; its mean over tokens is the loss.

    Columns: document, chunk, position, token, layer, metric, value, corrected, low, high, null, balanced, n, scope; n
    is how many tokens f was counted over. Without router logits the table is empty and `attrs["note"]` says why.
    """
    words = tokens_scope(trace, include_special)
    about = "one token of one layer; E sum f p; mean over tokens is the layer's loss"
    scope = f"{about}; {words}; {PERMUTED_EXPERTS}; one token: no interval"
    counted = np.flatnonzero(counted_rows(trace, include_special))
    losses = _token_losses(trace, include_special)
    value, null = losses.value[counted], losses.null[counted]
    table = pd.DataFrame(
        token_keys(trace, counted, value.shape[1:])
        | {"layer": flat(np.array(trace.layers), value.shape), "metric": _constant("token_balance_loss", value.size)}
        | {"value": value.ravel(), "corrected": np.nan, "low": np.nan, "high": np.nan}
        | {"null": null.ravel(), "balanced": 1.0}
        | {"n": flat(losses.tokens, value.shape), "scope": _constant(scope, value.size)}
    )
    table = with_dtypes(table[table["value"].notna()].reset_index(drop=True), SPEC)
    if trace.router_logits is None:
        table.attrs["note"] = f"not enough data: {NO_LOGITS}"
    return table


class _TokenLosses(NamedTuple):
    """What tokens add to the losses of layers; NaN where a token is not counted."""

    value: Floats
    """[T, L] c(t)."""
    null: Floats
    """[T, L] its mean when each token's experts are permuted."""
    tokens: NDArray[np.int64]
    """[L] the tokens f was counted over."""


def _token_losses(trace: Trace, include_special: bool) -> _TokenLosses:
    value, null = np.full((2, len(trace), trace.num_layers), np.nan)
    total = RoutingStats.from_trace(trace, include_special=include_special).total().map(lambda sums: sums[:, 0])
    for part in counted_chunks(trace, counted_rows(trace, include_special)):
        if part.logits is not None:
            counted, probability = part.ids[..., 0] >= 0, softmax(part.logits)[0]
            loss = metrics.token_balance_loss(LossParts(trace.num_experts_per_tok).share(total), probability)  # [L, n]
            value[part.rows] = np.where(counted, loss, np.nan).T
            null[part.rows] = np.where(counted, _chance(probability, part.ids, total), np.nan).T
    return _TokenLosses(value, null, total.tokens)


def _chance(probability: Floats, ids: NDArray[np.int16], total: Sums) -> Floats:
    """[L, n] mean of c(t), of probabilities [L, n, E] and expert ids [L, n, K]: a token meets its own choices."""
    experts, chosen = probability.shape[-1], ids.shape[-1]
    mass = np.where(metrics.chosen_mask(ids, experts).any(-2), probability, 0.0).sum(-1)
    others = total.counts.sum(-1)[:, None] - (ids >= 0).sum(-1)  # [L, n] choices of all other tokens
    return metrics.ratio(experts * mass + others, chosen * total.tokens[:, None])


def _constant(text: str, length: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(length, np.int8), [text])


SPEC = TableSpec(
    function=balance_loss_tokens,
    source="trace",
    description="What each token adds to the load-balancing loss.",
    keys=(*TOKEN_KEYS, "layer"),
    values=VALUES_WITH_BALANCED,
    metrics={
        "token_balance_loss": Metric(
            "E sum f p of one token; its mean over tokens is exactly the layer's loss, 1 at balance; null: independent "
            "routing",
            "the token's part of the loss",
            bounds=POSITIVE,
            null=INDEPENDENT,
            balanced="mean when balanced",
        )
    },
    figures=(Drawing("balance_loss_tokens", lambda table: [first_window(table)]),),
    narrows=True,
    per_token=True,
)
