"""The recorded attention of one window of a document, and the columns of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixtral_probe.errors import InputError
from mixtral_probe.tables.frame import with_dtypes
from mixtral_probe.tables.spec import Column, TableSpec
from mixtral_probe.trace import Trace

Floats = NDArray[np.float64]
MAP_KEYS = ("document", "chunk", "layer", "head", "query", "position", "token", "experts")
MAP_MEANINGS = {
    "query": Column("position of the token that looks", "Int64"),
    "position": Column("position of the token looked at", "Int64"),
    "token": Column("text of the token looked at", "str"),
    "experts": Column("experts the token looked at went to in this layer, strongest first", "str"),
}
"""The columns of tables about the attention of single tokens."""
ONE_TOKEN = "one token: no interval"


@dataclass(frozen=True)
class WindowMaps:
    """The attention maps of one window of one document."""

    trace: Trace
    document: int
    chunk: int
    rows: slice
    """Of the trace."""

    @classmethod
    def of(cls, trace: Trace, document: int, chunk: int) -> "WindowMaps":
        """Find a window of a trace.

        Raises:
            InputError: the document or window does not exist.
        """
        whole = trace.rows(document)
        chunks = trace.tokens["chunk"].to_numpy()[whole]
        inside = np.flatnonzero(chunks == chunk)
        if not len(inside):
            windows = f"0–{chunks.max()}" if len(chunks) else "it has none"
            raise InputError(f"chunk must be a window of document {document} ({windows}), got {chunk}")
        return cls(
            trace,
            document,
            chunk,
            slice(whole.start + int(inside[0]), whole.start + int(inside[-1]) + 1),
        )

    def index(self, layer: int) -> int:
        """Return the row of a layer in the trace's arrays.

        Raises:
            InputError: the trace has no such layer.
        """
        layers = self.trace.layers
        if layer not in layers:
            raise InputError(f"layer must be one of {', '.join(map(str, layers))}, got {layer}")
        return layers.index(layer)

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
        """Return the key columns up to the query."""
        place = {"document": self.document, "chunk": self.chunk, "layer": layer}
        return place | {"head": pd.NA if head is None else head, "query": query}

    def token_columns(self, position: NDArray[np.intp], layer: int) -> dict[str, Any]:
        """Return the columns about the tokens at some positions; texts stay categories."""
        pieces = self.trace.tokens["piece"].iloc[self.rows].cat
        routed = [" ".join(str(expert) for expert in ids if expert >= 0) for ids in self.experts(layer)]
        names, codes = np.unique(np.array(routed, dtype=object).astype(str), return_inverse=True)
        return {
            "position": position,
            "token": pd.Categorical.from_codes(pieces.codes.to_numpy()[position], pieces.categories),
            "experts": pd.Categorical.from_codes(codes[position], names),
        }


def check_positions(start: int, stop: int, size: int) -> None:
    """Check that positions from `start` to `stop` - 1 are not empty and lie in a window of `size` tokens.

    Raises:
        InputError: they are empty or lie outside.
    """
    if not 0 <= start < stop <= size:
        raise InputError(f"positions must be in 0–{size - 1} (the window has {size}), got {start} to {stop - 1}")


def one_token_rows(
    spec: TableSpec, keys: Mapping[str, Any], value: Floats, null: Any, n: int, scope: str
) -> pd.DataFrame:
    """Return a table of one metric about single tokens, without intervals; texts that repeat are categories."""
    (metric,) = spec.metrics
    texts = {"metric": metric, "scope": scope}
    constant = {name: pd.Categorical.from_codes(np.zeros(len(value), np.int8), [text]) for name, text in texts.items()}
    numbers = {"value": value, "corrected": np.nan, "low": np.nan, "high": np.nan, "null": null, "n": n}
    return with_dtypes(pd.DataFrame({**keys, **numbers, **constant}, index=range(len(value))), spec)
