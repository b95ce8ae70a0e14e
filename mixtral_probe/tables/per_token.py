"""Tables with a row for every token and layer: `routes`, `balance_loss_tokens`."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.metrics import chosen_mask, selection_margin, softmax
from mixtral_probe.stats import RoutingStats, counted_chunks, counted_rows
from mixtral_probe.tables.frame import VALUE_COLUMNS, integers
from mixtral_probe.tables.load import NO_LOGITS
from mixtral_probe.tables.loss_parts import LossParts
from mixtral_probe.trace import Trace

_TOKEN_KEYS = ("document", "chunk", "position", "token")


def routes(trace: Trace) -> pd.DataFrame:
    """Which experts each token went to: a row per token, layer and rank, special tokens too.

    Columns: document, chunk, position, token (text), layer, rank (0 = strongest), expert, weight, margin. The margin is
    that of the token's whole choice, z_(K) - z_(K+1), the same for all its ranks; it is missing when logits were not
    recorded or no other expert could be chosen. The weight is missing when weights were not recorded.
    """
    meta, layers = trace.meta, np.array(trace.layers)
    ids = np.asarray(trace.expert_ids).transpose(1, 0, 2)  # [T, L, K]
    keys = _token_keys(trace, np.arange(len(trace)), ids.shape[1:])
    table = pd.DataFrame(
        keys
        | {
            "layer": _flat(layers[:, None], ids.shape),
            "rank": _flat(np.arange(meta.num_experts_per_tok), ids.shape),
            "expert": ids.ravel(),
            "weight": _flat(_weights(trace), ids.shape),
            "margin": _flat(_margins(trace)[..., None], ids.shape),
        }
    )
    return integers(table[table["expert"] >= 0].reset_index(drop=True))


def _weights(trace: Trace) -> NDArray[np.float64]:
    """[T, L, K], or NaN."""
    if trace.expert_weights is None:
        return np.array(np.nan)
    return np.asarray(trace.expert_weights, np.float64).transpose(1, 0, 2)


def _margins(trace: Trace) -> NDArray[np.float64]:
    """[T, L] selection margins, NaN where there is none."""
    margin = np.full((len(trace), trace.meta.num_layers), np.nan)
    for part in counted_chunks(trace, counted_rows(trace, include_special=True)):
        if part.logits is not None:
            chosen = chosen_mask(part.ids, trace.meta.num_experts).any(-2)
            found = selection_margin(part.logits, chosen).T
            margin[part.rows] = np.where(np.isfinite(found), found, np.nan)
    return margin


def balance_loss_tokens(trace: Trace, *, include_special: bool = False) -> pd.DataFrame:
    """Each token's exact part c(t) = E sum_i f_i p_(t,i) of each layer's loss; its mean over tokens is the loss.

    Columns: document, chunk, position, token, layer, metric, value, low, high, null, n, scope; n is how many tokens f
    was counted over. Without router logits the table is empty and `attrs["note"]` says why.
    """
    words = "all tokens" if include_special else "special tokens out"
    scope = f"one token of one layer; E sum f p; mean over tokens is the layer's loss; {words}; one token: no interval"
    counted = np.flatnonzero(counted_rows(trace, include_special))
    value, tokens = _token_losses(trace, include_special)
    value = value[counted]
    table = pd.DataFrame(
        _token_keys(trace, counted, value.shape[1:])
        | {"layer": _flat(np.array(trace.layers), value.shape), "metric": _constant("token_balance_loss", value.size)}
        | {"value": value.ravel(), "low": np.nan, "high": np.nan, "null": 1.0, "n": _flat(tokens, value.shape)}
        | {"scope": _constant(scope, value.size)}
    )
    table = integers(table[table["value"].notna()].reset_index(drop=True))
    if trace.router_logits is None:
        table.attrs["note"] = f"not enough data: {NO_LOGITS}"
    return table[[*_TOKEN_KEYS, "layer", *VALUE_COLUMNS]]


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


def _token_keys(trace: Trace, rows: NDArray[np.intp], tail: tuple[int, ...]) -> dict[str, Any]:
    """The key columns of the tokens `rows`, each repeated for the axes `tail`; token texts stay categories."""
    tokens, times = trace.tokens.iloc[rows], int(np.prod(tail))
    pieces = tokens["piece"].cat
    keys = {name: np.repeat(tokens[name].to_numpy(), times) for name in ("document", "chunk", "position")}
    return keys | {"token": pd.Categorical.from_codes(np.repeat(pieces.codes, times), pieces.categories)}


def _flat(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.broadcast_to(array, shape).ravel()


def _constant(text: str, length: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(length, np.int8), [text])
