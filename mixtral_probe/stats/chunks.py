"""The tokens of a trace in chunks of bounded size, so that memory use does not grow with the trace."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mixtral_probe.trace import Trace

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]
MAX_LAG = 8
"""The largest distance of two tokens that are compared: how far an accumulator looks beyond a chunk."""
CHUNK_TOKENS = 2**17
"""Approximate number of tokens in a chunk."""
CHUNK_ELEMENTS = 2**19
"""Tokens x L x K x E of a chunk whose router logits are processed at once."""
_COLUMNS = ("document", "chunk", "position", "token_id")


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some tokens of a trace, in order; n of them. Memory-mapped arrays are read on access."""

    trace: Trace
    columns: Mapping[str, NDArray[np.int32]]
    """[T] document, chunk, position and token_id of the whole trace."""
    span: slice
    """The rows of the trace that it covers."""
    kept: NDArray[np.intp] | None = None
    """Which of those rows belong to it; None for all."""

    @classmethod
    def of(cls, trace: Trace) -> "Chunk":
        """Return all tokens of a trace as one chunk."""
        # Once for all chunks: a frame keeps a reference to each column or row read from it.
        columns = {name: trace.tokens[name].to_numpy() for name in _COLUMNS}
        return cls(trace, columns, slice(0, len(trace)))

    @property
    def rows(self) -> NDArray[np.intp]:
        """[n] the rows of its tokens in the trace."""
        return np.arange(self.span.start, self.span.stop)[self._index]

    def column(self, name: str) -> NDArray[np.int32]:
        """[n] document, chunk, position or token_id of each token."""
        return self.columns[name][self.span][self._index]

    @property
    def document(self) -> NDArray[np.intp]:
        """[n] the document of each token."""
        return self.column("document").astype(np.intp)

    @property
    def ids(self) -> NDArray[np.int16]:
        """[L, n, K] expert ids."""
        return np.asarray(self.trace.expert_ids[:, self.span])[:, self._index]

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """[L, n, K] expert weights."""
        return self._array(self.trace.expert_weights)

    @property
    def logits(self) -> NDArray[np.float32] | None:
        """[L, n, E] router logits."""
        return self._array(self.trace.router_logits)

    @property
    def _index(self) -> NDArray[np.intp] | slice:
        return slice(None) if self.kept is None else self.kept

    def _array(self, array: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if array is None else np.asarray(array[:, self.span])[:, self._index]

    def where(self, counted: Mask) -> "Chunk":
        """Return only the tokens that count, by a mask [T] over the trace."""
        return replace(self, kept=np.flatnonzero(counted[self.span]))

    def extended(self, lag: int) -> "Chunk":
        """Return the same rows and up to `lag` after them."""
        return replace(self, span=slice(self.span.start, min(self.span.stop + lag, len(self.trace))))

    def runs(self, counted: Mask) -> Integers:
        """[n] one number for counted tokens that follow one another without a gap; every other token gets a new one.

        Args:
            counted: [T] the tokens of the trace that count.
        """
        left_out = ~counted[self.span][self._index]
        starts = left_out | np.concatenate([[True], left_out])[: len(left_out)]
        starts |= np.diff(self.column("position"), prepend=-2) != 1
        for name in ("document", "chunk"):
            starts |= np.diff(self.column(name), prepend=-1) != 0
        return np.cumsum(starts, dtype=np.int64)

    def split(self, tokens: int) -> "Iterator[Chunk]":
        """Split into chunks of at most `tokens` rows of the trace."""
        for start in range(self.span.start, self.span.stop, tokens):
            yield replace(self, span=slice(start, min(start + tokens, self.span.stop)))


class Accumulator(Protocol):
    """Sums to which the chunks of a trace are added one after another."""

    def update(self, chunk: Chunk) -> None:
        """Add a chunk, in place."""
        ...


def accumulate(trace: Trace, *accumulators: Accumulator) -> None:
    """Add all tokens of a trace to accumulators, in place, in chunks that can be split into whole `small` ones."""
    tokens = small(trace)
    for chunk in Chunk.of(trace).split(max(1, CHUNK_TOKENS // tokens) * tokens):
        for accumulator in accumulators:
            accumulator.update(chunk)


def counted_chunks(trace: Trace, counted: Mask) -> Iterator[Chunk]:
    """Yield the tokens that count, [T] of a trace, in chunks whose router logits can be processed at once."""
    for chunk in Chunk.of(trace).split(small(trace)):
        if counted[chunk.span].any():
            yield chunk.where(counted)


def small(trace: Trace) -> int:
    """Return the number of tokens whose router logits can be processed at once."""
    return max(1, CHUNK_ELEMENTS // (trace.num_layers * trace.num_experts_per_tok * trace.num_experts))


def counted_rows(trace: Trace, include_special: bool) -> Mask:
    """[T] True for the tokens that statistics count: all but the special ones, unless those are included."""
    special = trace.tokens["special"].to_numpy(dtype=bool)
    return np.ones_like(special) if include_special else ~special
