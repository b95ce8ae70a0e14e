"""What single tokens look at: `attention_weights`, `attention_rollout`, `attended_experts`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe import metrics
from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import VALUE_COLUMNS
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
Span = tuple[int, int]
KEYS = ("document", "chunk", "layer", "head", "query", "position", "token", "experts")
_EXPERT_KEYS = ("document", "chunk", "layer", "head", "query", "expert")
_ONE = "one token: no interval"


def attention_weights(
    trace: Trace,
    *,
    layer: int,
    head: int | None = None,
    document: int = 0,
    chunk: int = 0,
    queries: Span | None = None,
    keys: Span | None = None,
    step: int = 1,
) -> pd.DataFrame:
    """Who looks at whom in one head: a row per query and each position it may see.

    Columns: document, chunk, layer, head, query (position of the token that looks), position (of the token looked at),
    token and experts (its text and the experts it went to in this layer, strongest first), metric, value, low, high,
    null, n, scope. The null is attention spread evenly over the query and all before it.

    Args:
        trace: with recorded maps.
        layer: as the model numbers it.
        head: one of the recorded heads; None for their mean, an empty `head`.
        document, chunk: the window.
        queries, keys: first position and the one behind the last; None for all.
        step: above 1, only the strongest link of each square of step × step positions, so that long windows stay small;
            squares begin at multiples of step.

    Raises:
        InputError: the layer, head, window or positions are not there.
    """
    window = Window.of(trace, document, chunk)
    weights = window.weights(layer, head)
    query, key, value = _strongest(weights, _span(queries, len(weights)), _span(keys, len(weights)), step)
    whose = "one head" if head is not None else "mean of the recorded heads"
    of = "one query and position" if step == 1 else f"the strongest link of {step} × {step} positions"
    scope = f"{of}; {whose}; a query's attention sums to 1; {_ONE}"
    found = window.keys(layer, head, query) | window.looked_at(key, layer)
    return _rows(found, KEYS, "attention_weight", value, 1 / (query + 1), 1, scope)


def attention_rollout(
    trace: Trace, *, query: int, layer: int | None = None, document: int = 0, chunk: int = 0
) -> pd.DataFrame:
    """How much of each token reaches a query through all layers up to one, had attention alone carried it.

    Columns as in `attention_weights`, with an empty `head`; `layer` is the last layer and `experts` are those there.
    The null is the rollout of attention spread evenly in every layer. See `metrics.attention_rollout` for the paper.

    Args:
        trace: with recorded maps of every layer up to `layer`.
        query: position of the token.
        layer: the last layer; None for the model's last.
        document, chunk: the window.

    Raises:
        InputError: maps of a layer are missing, or the window or query is not there.
    """
    window = Window.of(trace, document, chunk)
    numbers = trace.layers
    last = numbers[-1] if layer is None else layer
    index = window.index(last)
    every = tuple(range(index + 1))
    if trace.attention_layers[: index + 1] != every or numbers[: index + 1] != every:
        held = ", ".join(str(numbers[at]) for at in trace.attention_layers) or "none"
        raise InputError(
            f"a rollout to layer {last} needs the attention of every layer up to it, but the trace holds layers {held}"
            "; record them all"
        )
    maps = [window.weights(number, None) for number in numbers[: index + 1]]
    _span((query, query + 1), len(maps[0]))
    value = metrics.attention_rollout(maps, [query])[0, : query + 1]
    even = metrics.attention_rollout([metrics.even_attention(query + 1)] * len(maps), [query])[0]
    key = np.arange(query + 1)
    found = window.keys(last, None, np.full(query + 1, query)) | window.looked_at(key, last)
    scope = f"one query; all layers up to this, mean of heads, half of each step the residual; sums to 1; {_ONE}"
    return _rows(found, KEYS, "attention_rollout", value, even, 1, scope)


def attended_experts(
    trace: Trace, *, layer: int, query: int, head: int | None = None, document: int = 0, chunk: int = 0
) -> pd.DataFrame:
    """Where the tokens that a query looks at were sent: the share of its attention on each expert's tokens.

    Columns: document, chunk, layer, head, query, expert, metric, value, low, high, null, n, scope. A token counts for
    its first choice; the null is attention spread evenly over the query and all before it; n counts those tokens.

    Raises:
        InputError: the layer, head, window or query is not there.
    """
    window = Window.of(trace, document, chunk)
    weights = window.weights(layer, head)
    _span((query, query + 1), len(weights))
    first = window.experts(layer)[: query + 1, 0]
    seen = np.full(query + 1, 1 / (query + 1))
    value, even = metrics.attended_share([weights[query, : query + 1], seen], first, trace.num_experts)
    scope = f"one query; first choices in the same layer of what it looks at; special tokens too; {_ONE}"
    found = window.keys(layer, head, np.full(len(value), query)) | {"expert": np.arange(len(value))}
    n = int((first >= 0).sum())
    if not n:
        scope = "not enough data: no token before it went to an expert"
    return _rows(found, _EXPERT_KEYS, "attended_share", value, even, n, scope)


@dataclass(frozen=True)
class Window:
    """One window of one document, as its attention sees it."""

    trace: Trace
    document: int
    chunk: int
    rows: slice
    """Of the trace."""

    @classmethod
    def of(cls, trace: Trace, document: int, chunk: int) -> "Window":
        """Find it; raises InputError when it is not there."""
        own = trace.rows(document)
        inside = np.flatnonzero(trace.tokens["chunk"].to_numpy()[own] == chunk)
        if not len(inside):
            raise InputError(f"window {chunk} of document {document} was asked for, but there is none")
        return cls(trace, document, chunk, slice(own.start + int(inside[0]), own.start + int(inside[-1]) + 1))

    def index(self, layer: int) -> int:
        """Where a layer stands in the trace's arrays."""
        numbers = self.trace.layers
        if layer not in numbers:
            raise InputError(f"layer {layer} was asked for, but the trace holds layers {', '.join(map(str, numbers))}")
        return numbers.index(layer)

    def weights(self, layer: int, head: int | None) -> NDArray[np.floating]:
        """[S, S] of one head, or the mean of the recorded heads."""
        index = self.index(layer)
        if head is not None:
            return self.trace.attention(self.document, index, head, self.chunk)
        heads = self.trace.attention_heads(index) or (0,)
        total = self.trace.attention(self.document, index, heads[0], self.chunk)
        for other in heads[1:]:
            total = total + self.trace.attention(self.document, index, other, self.chunk)
        return total / len(heads)

    def experts(self, layer: int) -> NDArray[np.int16]:
        """[S, K] the experts of its tokens in a layer, strongest first."""
        return np.asarray(self.trace.expert_ids[self.index(layer), self.rows])

    def keys(self, layer: int, head: int | None, query: NDArray[Any]) -> dict[str, Any]:
        """The key columns up to the query."""
        return {
            "document": self.document,
            "chunk": self.chunk,
            "layer": layer,
            "head": pd.NA if head is None else head,
            "query": query,
        }

    def looked_at(self, key: NDArray[np.intp], layer: int) -> dict[str, Any]:
        """The columns about the tokens at positions `key`; texts stay categories."""
        pieces = self.trace.tokens["piece"].iloc[self.rows].cat
        routed = [" ".join(str(expert) for expert in ids if expert >= 0) for ids in self.experts(layer)]
        names, codes = np.unique(np.array(routed, dtype=object).astype(str), return_inverse=True)
        return {
            "position": key,
            "token": pd.Categorical.from_codes(pieces.codes.to_numpy()[key], pieces.categories),
            "experts": pd.Categorical.from_codes(codes[key], names),
        }


def _span(span: Span | None, size: int) -> Span:
    if span is None:
        return 0, size
    start, stop = span
    if not 0 <= start < stop <= size:
        raise InputError(f"positions {start} to {stop - 1} were asked for, but the window has {size} (0–{size - 1})")
    return start, stop


def _strongest(
    weights: NDArray[np.floating], queries: Span, keys: Span, step: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Query, key and weight of the strongest link of each square that holds one, in order.

    Squares begin at multiples of `step`, wherever the spans do.
    """
    (top, bottom), (left, right) = queries, keys
    first, before = top // step, left // step
    down, across = -(-bottom // step) - first, -(-right // step) - before
    seen = np.arange(top, bottom)[:, None] >= np.arange(left, right)
    padded = np.full((down * step, across * step), -1.0, np.float32)
    inside = (slice(top - first * step, bottom - first * step), slice(left - before * step, right - before * step))
    padded[inside] = np.where(seen, weights[top:bottom, left:right], -1.0)
    squares = padded.reshape(down, step, across, step).swapaxes(1, 2).reshape(down, across, step * step)
    best = squares.argmax(-1)
    value = np.take_along_axis(squares, best[..., None], -1)[..., 0]
    query = (first + np.arange(down)[:, None]) * step + best // step
    key = (before + np.arange(across)) * step + best % step
    held = value >= 0
    order = np.lexsort((key[held], query[held]))
    return query[held][order], key[held][order], value[held][order].astype(np.float64)


def _rows(
    keys: dict[str, Any], names: tuple[str, ...], metric: str, value: Floats, null: Any, n: int, scope: str
) -> pd.DataFrame:
    size = len(value)
    texts = {"metric": metric, "scope": scope}
    constant = {name: pd.Categorical.from_codes(np.zeros(size, np.int8), [text]) for name, text in texts.items()}
    frame = pd.DataFrame(
        keys | {"value": value, "low": np.nan, "high": np.nan, "null": null, "n": n} | constant,
        index=range(size),
    )
    whole = [
        name for name in ("document", "chunk", "layer", "head", "query", "position", "expert", "n") if name in frame
    ]
    return frame[[*names, *VALUE_COLUMNS]].astype(dict.fromkeys(whole, "Int64"))
