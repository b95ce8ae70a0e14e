"""How much of each token reaches a query through all layers: `attention_rollout`."""

import numpy as np
import pandas as pd

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.attention.maps import (
    MAP_KEYS,
    MAP_MEANINGS,
    ONE_TOKEN,
    WindowMaps,
    check_positions,
    one_token_rows,
)
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import SHARE
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace


@of_trace
def attention_rollout(
    trace: Trace, *, query: int, layer: int | None = None, document: int = 0, chunk: int = 0
) -> pd.DataFrame:
    """Return how much of each token reaches a query through all layers up to one, if attention alone moves it.

    Columns as in `attention_weights`, with an empty `head`; `layer` is the last layer and `experts` are those of it.
    The null is the rollout of attention spread evenly in every layer. See `metrics.attention_rollout` for the paper.

    Args:
        trace: with recorded maps of every layer up to `layer`.
        query: position of the token.
        layer: the last layer; None for the model's last.
        document, chunk: the window.

    Raises:
        InputError: maps of a layer are missing, or the window or query does not exist.
    """
    window = WindowMaps.of(trace, document, chunk)
    layers = _layers_up_to(window, layer)
    maps = [window.weights(number, None) for number in layers]
    check_positions(query, query + 1, len(maps[0]))
    value = metrics.attention_rollout(maps, [query])[0, : query + 1]
    even = metrics.attention_rollout([metrics.even_attention(query + 1)] * len(maps), [query])[0]
    columns = window.keys(layers[-1], None, np.full(query + 1, query))
    columns |= window.token_columns(np.arange(query + 1), layers[-1])
    scope = f"one query; all layers up to this, mean of heads, half of each step the residual; sums to 1; {ONE_TOKEN}"
    return one_token_rows(SPEC, columns, value, even, 1, scope)


def _layers_up_to(window: WindowMaps, layer: int | None) -> list[int]:
    """Return the layers from the first to this; raise InputError where the attention of one is missing."""
    trace = window.trace
    last = trace.layers[-1] if layer is None else layer
    index = window.index(last)
    every = [*range(index + 1)]
    if [*trace.attention_layers[: index + 1]] != every or [*trace.layers[: index + 1]] != every:
        recorded = ", ".join(str(trace.layers[at]) for at in trace.attention_layers) or "none"
        raise InputError(
            f"a rollout to layer {last} needs the attention of every layer up to it, got layers {recorded}; "
            "record them all"
        )
    return every


SPEC = TableSpec(
    function=attention_rollout,
    source="part",
    description="How much of each token reaches a query through all layers up to one, if attention alone moves it.",
    keys=MAP_KEYS,
    metrics={
        "attention_rollout": Metric(
            "share of `query` that comes from `position`; over positions it sums to 1",
            "attention rollout",
            ".1%",
            SHARE,
            "even attention in every layer",
        )
    },
    figures=(),
    narrows=False,
    meanings=MAP_MEANINGS,
)
