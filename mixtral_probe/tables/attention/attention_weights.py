"""Which tokens a token looks at in one head: `attention_weights`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.tables.attention.maps import (
    MAP_KEYS,
    MAP_MEANINGS,
    ONE_TOKEN,
    WindowMaps,
    check_positions,
    one_token_rows,
)
from mixtral_probe.tables.given import of_trace
from mixtral_probe.tables.phrases import EVEN_ATTENTION, SHARE
from mixtral_probe.tables.spec import Metric, TableSpec
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Positions = tuple[int, int]


@of_trace
def attention_weights(
    trace: Trace,
    *,
    layer: int,
    head: int | None = None,
    document: int = 0,
    chunk: int = 0,
    queries: Positions | None = None,
    keys: Positions | None = None,
    step: int = 1,
) -> pd.DataFrame:
    """Return how much each token of a window looks at each before it: a row per query and each position it may see.

    Columns: document, chunk, layer, head, query (position of the token that looks), position (of the token looked at),
    token and experts (its text and the experts it went to in this layer, strongest first), metric, value, corrected,
    low, high, null, n, scope. The null is attention spread evenly over the query and all before it.

    Args:
        trace: with recorded maps.
        layer: as the model numbers it.
        head: one of the recorded heads; None for their mean, an empty `head`.
        document, chunk: the window.
        queries, keys: first position, and last position + 1; None for all.
        step: above 1, only the strongest link of each square of step × step positions, so that long windows stay small;
            squares begin at multiples of step.

    Raises:
        InputError: the layer, head or window does not exist, or positions lie outside of it.
    """
    window = WindowMaps.of(trace, document, chunk)
    weights = window.weights(layer, head)
    size = len(weights)
    queries, keys = queries or (0, size), keys or (0, size)
    check_positions(*queries, size)
    check_positions(*keys, size)
    query, key, value = _strongest(weights, queries, keys, step)
    which = "one head" if head is not None else "mean of the recorded heads"
    link = "one query and position" if step == 1 else f"the strongest link of {step} × {step} positions"
    scope = f"{link}; {which}; a query's attention sums to 1; {ONE_TOKEN}"
    columns = window.keys(layer, head, query) | window.token_columns(key, layer)
    return one_token_rows(SPEC, columns, value, 1 / (query + 1), 1, scope)


def _strongest(
    weights: NDArray[np.floating], queries: Positions, keys: Positions, step: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return query, key and weight of the strongest link of each square that has one, in order.

    Squares begin at multiples of `step`, wherever queries and keys begin.
    """
    (top, bottom), (left, right) = queries, keys
    first, before = top // step, left // step
    down, across = -(-bottom // step) - first, -(-right // step) - before
    visible = np.arange(top, bottom)[:, None] >= np.arange(left, right)
    padded = np.full((down * step, across * step), -1.0, np.float32)
    inside = (slice(top - first * step, bottom - first * step), slice(left - before * step, right - before * step))
    padded[inside] = np.where(visible, weights[top:bottom, left:right], -1.0)
    squares = padded.reshape(down, step, across, step).swapaxes(1, 2).reshape(down, across, step * step)
    best = squares.argmax(-1)
    value = np.take_along_axis(squares, best[..., None], -1)[..., 0]
    query = (first + np.arange(down)[:, None]) * step + best // step
    key = (before + np.arange(across)) * step + best % step
    linked = value >= 0
    order = np.lexsort((key[linked], query[linked]))
    return query[linked][order], key[linked][order], value[linked][order].astype(np.float64)


SPEC = TableSpec(
    function=attention_weights,
    source="part",
    description="How much each token of a window looks at itself and each token before it, in one head.",
    keys=MAP_KEYS,
    metrics={
        "attention_weight": Metric(
            "attention of `query` on `position`; over positions it sums to 1", "attention", ".1%", SHARE, EVEN_ATTENTION
        )
    },
    figures=(),
    narrows=False,
    meanings=MAP_MEANINGS,
)
