"""Where in the text an expert was chosen: `expert_choices`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.metrics import softmax
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.token_text import unknown_token
from mixtral_probe.trace import Trace

AROUND = 6
"""Tokens of context on either side."""


@of_trace
def expert_choices(
    trace: Trace, *, expert: int, layer: int | None = None, strongest: int | None = None
) -> pd.DataFrame:
    """Return the tokens that were sent to an expert, special tokens too, in the order of the text.

    Columns: document, chunk, position, row (of the token in its document), before, token, after, layer, rank, weight,
    probability (softmax over all experts), n (how often the expert was chosen in all layers searched). Weight and
    probability are missing where weights or logits were not recorded; the context ends with the window.

    Args:
        trace: the trace.
        expert: from 0.
        layer: as the model numbers it; None for any, though experts of different layers are different networks.
        strongest: keep at most this number, those with the largest weight; None for all.

    Raises:
        InputError: the expert or layer does not exist, or `strongest` is below 1.
    """
    layers = trace.layers
    if not 0 <= expert < trace.num_experts:
        raise InputError(f"expert must be in 0–{trace.num_experts - 1} (there are {trace.num_experts}), got {expert}")
    if layer is not None and layer not in layers:
        raise InputError(f"layer must be one of {', '.join(map(str, layers))}, got {layer}")
    if strongest is not None and strongest < 1:
        raise InputError(f"strongest must be at least 1, got {strongest}")
    searched = np.arange(len(layers)) if layer is None else np.array([layers.index(layer)])
    at, token, rank = np.nonzero(np.asarray(trace.expert_ids[searched]) == expert)
    at = searched[at]
    weight, n = _weights(trace, at, token, rank), len(at)
    if strongest is not None and n > strongest:
        kept = np.argsort(-np.where(np.isnan(weight), -1.0 * rank, weight), kind="stable")[:strongest]
        at, token, rank, weight = at[kept], token[kept], rank[kept], weight[kept]
    order = np.lexsort((at, token))
    return _table(trace, expert, at[order], token[order], rank[order], weight[order], n)


def _table(
    trace: Trace,
    expert: int,
    at: NDArray[np.intp],
    token: NDArray[np.intp],
    rank: NDArray[np.intp],
    weight: NDArray[np.float64],
    n: int,
) -> pd.DataFrame:
    tokens = trace.tokens
    document = tokens["document"].to_numpy(np.int64)
    texts = _contexts(trace, token)
    keys = {name: tokens[name].to_numpy()[token] for name in ("document", "chunk", "position")}
    table = pd.DataFrame(
        keys
        | {"row": token - np.searchsorted(document, document[token])}
        | {
            name: pd.Series(column, dtype=object)
            for name, column in zip(("before", "token", "after"), texts, strict=True)
        }
        | {"layer": np.array(trace.layers)[at], "rank": rank, "weight": weight}
        | {"probability": _probabilities(trace, expert, at, token), "n": n}
    )
    return with_dtypes(table, SPEC)


def _weights(
    trace: Trace, at: NDArray[np.intp], token: NDArray[np.intp], rank: NDArray[np.intp]
) -> NDArray[np.float64]:
    if trace.expert_weights is None:
        return np.full(len(at), np.nan)
    return np.asarray(trace.expert_weights[at, token, rank], np.float64)


def _probabilities(trace: Trace, expert: int, at: NDArray[np.intp], token: NDArray[np.intp]) -> NDArray[np.float64]:
    if trace.router_logits is None:
        return np.full(len(at), np.nan)
    return np.asarray(softmax(trace.router_logits[at, token])[0][:, expert], np.float64)


def _contexts(trace: Trace, token: NDArray[np.intp]) -> tuple[list[str], list[str], list[str]]:
    """Return the text before, of and after each token; a token without a text is ⟨id 8243⟩."""
    window = trace.tokens["document"].to_numpy(np.int64) * 2**32 + trace.tokens["chunk"].to_numpy(np.int64)
    first, last = (np.searchsorted(window, window[token], side=side).tolist() for side in ("left", "right"))
    codes, pieces = trace.tokens["piece"].cat.codes.to_numpy(), trace.tokens["piece"].cat.categories.tolist()
    ids = trace.tokens["token_id"].to_numpy()

    def text(start: int, stop: int) -> str:
        return "".join(pieces[codes[at]] if codes[at] >= 0 else unknown_token(ids[at]) for at in range(start, stop))

    places = list(zip(token.tolist(), first, last, strict=True))
    return (
        [text(max(start, place - AROUND), place) for place, start, _ in places],
        [text(place, place + 1) for place, *_ in places],
        [text(place + 1, min(stop, place + 1 + AROUND)) for place, _, stop in places],
    )


SPEC = TableSpec(
    function=expert_choices,
    source="part",
    description="Where in the text an expert was chosen, with the text around each place.",
    keys=("document", "chunk", "position", "row", "before", "token", "after", "layer"),
    metrics={},
    figures=(),
    narrows=True,
    values=("rank", "weight", "probability", "n"),
    meanings={
        "row": Column("row of the token in its document, from 0", "Int64"),
        "before": Column("text of the tokens before, within the window", "str"),
        "after": Column("text of the tokens after, within the window", "str"),
        "probability": Column("softmax of the router logits over all experts; empty without logits", "float64"),
        "n": Column("how often the expert was chosen in all that was searched", "Int64"),
    },
)
